import { errorText } from '@aviary/core';
import { loadConfig } from './config.ts';
import { startHostAgent } from './start.ts';

const config = loadConfig(process.env);
const agent = await startHostAgent(config).catch((error: unknown) => {
  process.stderr.write(`host-agent: ${errorText(error)}\n`);
  process.exit(1);
});

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
