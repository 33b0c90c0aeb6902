import { exitAtStart } from '@aviary/service-kit';
import { loadConfig } from './config.ts';
import { startHostAgent } from './start.ts';

async function start() {
  const config = loadConfig(process.env);
  return { config, agent: await startHostAgent(config) };
}

const { config, agent } = await start().catch((error: unknown) => exitAtStart('host-agent', error));

let isStopping = false;
async function stop(): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  await agent[Symbol.asyncDispose]();
  process.exit(0);
}
process.on('SIGTERM', () => void stop());
process.on('SIGINT', () => void stop());
if (config.exitWithParent)
  process.stdin
    .resume()
    .on('end', () => void stop())
    .on('error', () => void stop());
