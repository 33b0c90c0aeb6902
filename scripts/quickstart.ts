import { parseArgs } from 'node:util';
import {
  ensureHostPackages,
  ensureImages,
  findClaimLink,
  isRoot,
  LineTail,
  loadConfig,
  Output,
  type Platform,
  readApiKey,
  readableLogLine,
  renderTable,
  reservePlatform,
  runAsRoot,
  startPlatform,
} from '@aviary/cli';
import { errorText } from '@aviary/core';
import { AviaryClient, type Sandbox } from '@aviary/sdk';
import { formatMs, StepFailed, StepRunner } from './step-runner.ts';
import { createSandbox, type Tour, travelInTime, useSandbox } from './tour.ts';

const usage = `npm run quickstart [-- --exit]

Installs what this machine lacks, builds the guest images, starts Aviary and shows what it does.
  --exit   stop when done, instead of staying up until Ctrl-C`;

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupt.abort(name));
const { signal } = interrupt;
const output = new Output({
  stdout: process.stdout,
  stderr: process.stderr,
  isJson: false,
  isColorWanted: !process.env['NO_COLOR'],
});
const serviceLines = new LineTail(40);

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { exit: { type: 'boolean' }, help: { type: 'boolean' } } });
  if (values.help) {
    process.stdout.write(`${usage}\n`);
    return 0;
  }
  if (!isRoot()) {
    return await runAsRoot({
      what: 'the quick start',
      env: process.env,
      note: (text) => output.note(text),
      signal,
    });
  }
  const config = loadConfig(process.env);
  await using reservation = await reservePlatform({ config, signal, onNote: (text) => output.note(text) });
  const steps = new StepRunner(output, signal);
  await steps.run(
    'install host packages',
    () => ensureHostPackages(output, signal),
    (names) => (names.length > 0 ? `${names.length} installed` : 'all there'),
  );
  await steps.run('build guest images', () => ensureImages({ dataDir: config.dataDir }, output, signal));
  await using platform = await steps.run('start the platform', () =>
    startPlatform({
      config,
      reservation,
      signal,
      onLine: showTrouble,
      onStep: (text) => output.note(`  ${text}`),
    }),
  );
  const apiKey = await readApiKey(platform);
  const tour: Tour = { client: new AviaryClient({ apiUrl: platform.apiUrl, apiKey }), steps, signal };
  const sandboxes: Sandbox[] = [];
  const stay = values.exit !== true;
  let isDone = false;
  try {
    await takeTour(tour, sandboxes);
    isDone = true;
  } finally {
    // Staying up, the first sandbox is left to play with.
    await destroyAll(tour, isDone && stay ? sandboxes.slice(1) : sandboxes);
  }
  summarize(steps);
  if (!stay) return 0;
  await announce(platform, sandboxes[0]);
  await aborted();
  output.note('stopping');
  return 0;
}

/** Keeps what a service writes for when something fails; shows warnings, errors and what is not of the service's own log at once. */
function showTrouble(service: string, line: string): void {
  const text = `${service.padEnd(13)} | ${readableLogLine(line)}`;
  serviceLines.add(text);
  if (!/^\{"level":[123]0,/.test(line)) output.note(output.paint('yellow', text));
}

async function takeTour(tour: Tour, sandboxes: Sandbox[]): Promise<void> {
  const sandbox = await createSandbox(tour);
  sandboxes.push(sandbox);
  await useSandbox(tour, sandbox);
  const forks = await travelInTime(tour, sandbox);
  if (forks) sandboxes.push(...forks);
  else output.note('  this version does not pause, resume and fork yet');
}

async function destroyAll({ client }: Tour, sandboxes: readonly Sandbox[]): Promise<void> {
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

function aborted(): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}

try {
  process.exitCode = await main();
} catch (error) {
  if (signal.aborted) {
    output.note('interrupted');
    process.exitCode = signal.reason === 'SIGTERM' ? 143 : 130;
  } else {
    output.note(`${output.paint('red', 'quick start:')} ${errorText(error)}`);
    if (error instanceof StepFailed && serviceLines.lines().length > 0) {
      output.note(`the services' last lines:\n  ${serviceLines.lines().join('\n  ')}`);
    }
    output.note("'npx aviary doctor' checks this machine and says how to fix what it finds");
    process.exitCode = 1;
  }
}
