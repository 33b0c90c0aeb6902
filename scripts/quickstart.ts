import { parseArgs } from 'node:util';
import { findClaimLink, loadConfig, type Output, type Platform, readApiKey, renderTable } from '@aviary/cli';
import { errorText } from '@aviary/core';
import { AviaryClient, type Sandbox } from '@aviary/sdk';
import { runPlatformScript, type Stage } from './platform-script.ts';
import { createSandbox, type Tour, travelInTime, useSandbox } from './sandbox-tour.ts';
import { formatMs, type StepRunner } from './step-runner.ts';

const usage = `npm run quickstart [-- --exit]

Installs what this machine lacks, builds the guest images, starts Aviary and shows what it does.
  --exit   stop when done, instead of staying up until Ctrl-C`;

async function main({ output, steps, signal, startPlatform }: Stage): Promise<number> {
  const { values } = parseArgs({ options: { exit: { type: 'boolean' } } });
  await using platform = await startPlatform();
  const apiKey = await readApiKey(platform);
  const tour: Tour = { client: new AviaryClient({ apiUrl: platform.apiUrl, apiKey }), steps, signal };
  const sandboxes: Sandbox[] = [];
  const stay = values.exit !== true;
  let isDone = false;
  try {
    await takeTour(tour, { sandboxes, output });
    isDone = true;
  } finally {
    // Staying up, the first sandbox is left to play with.
    await destroyAll(tour, { sandboxes: isDone && stay ? sandboxes.slice(1) : sandboxes, output });
  }
  summarize(steps);
  if (!stay) return 0;
  await announce(platform, sandboxes[0]);
  await aborted(signal);
  output.note('stopping');
  return 0;
}

async function takeTour(tour: Tour, { sandboxes, output }: { sandboxes: Sandbox[]; output: Output }): Promise<void> {
  const sandbox = await createSandbox(tour);
  sandboxes.push(sandbox);
  await useSandbox(tour, sandbox);
  const forks = await travelInTime(tour, sandbox);
  if (forks) sandboxes.push(...forks);
  else output.note('  this version does not pause, resume and fork yet');
}

async function destroyAll(
  { client }: Tour,
  { sandboxes, output }: { sandboxes: readonly Sandbox[]; output: Output },
): Promise<void> {
  for (const { id } of sandboxes) {
    await client.sandboxes
      .delete(id, { waitSec: 60 })
      .catch((error: unknown) => output.note(`cannot destroy ${id}: ${errorText(error)}`));
  }
}

function summarize({ records }: StepRunner): void {
  const rows = records.map(({ name, elapsedMs, detail }) => [name, formatMs(elapsedMs), detail]);
  process.stdout.write(`\n${renderTable(['STEP', 'TIME', ''], rows)}\n`);
}

async function announce(platform: Platform, sandbox: Sandbox | undefined): Promise<void> {
  const claim = await findClaimLink(loadConfig(process.env), platform.apiUrl);
  const lines = [
    '',
    `Aviary is running at ${platform.apiUrl}; its API is described at ${platform.apiUrl}/docs`,
    '',
    'In another terminal:',
    `  export AVIARY_API_URL=${platform.apiUrl}`,
    `  export AVIARY_API_KEY="$(sudo cat ${platform.apiKeyFile})"`,
    "  npx aviary run -- 'uname -a'",
    ...(sandbox ? [`  npx aviary sandbox exec ${sandbox.id} -- 'ps aux'`] : []),
    ...(claim
      ? ['', 'To share it with others, become its first administrator, once, in a browser:', `  ${claim.url}`]
      : []),
    '',
    "Ctrl-C stops it; sandboxes go on. 'npx aviary down' pauses them, 'npx aviary down --purge' removes everything.",
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}

await runPlatformScript({ title: 'quick start', usage, main });
