import {
  type CliConfig,
  ensureHostPackages,
  ensureImages,
  isRoot,
  LineTail,
  loadConfig,
  Output,
  type Platform,
  readableLogLine,
  reservePlatform,
  runAsRoot,
  startPlatform,
} from '@aviary/cli';
import { errorText } from '@aviary/core';
import { StepFailed, StepRunner } from './step-runner.ts';

/** A script that starts a platform of its own on this machine and shows something with it. */
export interface PlatformScript {
  /** As in `quick start`: what its complaints begin with. */
  title: string;
  /** What --help prints. */
  usage: string;
  /** Runs it. What it resolves with is the exit code. */
  main(stage: Stage): Promise<number>;
}

/** What a script has to show things with. */
export interface Stage {
  output: Output;
  steps: StepRunner;
  /** Aborts with the first SIGINT or SIGTERM. */
  signal: AbortSignal;
  /** Installs what is missing, builds the guest images and starts the platform, whose services get `env`. Disposing stops it; sandboxes go on. */
  startPlatform(env?: CliConfig['env']): Promise<Platform>;
}

/** Runs the script, as root through sudo where this is another user, and sets this process's exit code. */
export async function runPlatformScript({ title, usage, main }: PlatformScript): Promise<void> {
  if (process.argv.slice(2).includes('--help')) {
    process.stdout.write(`${usage}\n`);
    return;
  }
  const interrupt = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupt.abort(name));
  const { signal } = interrupt;
  const { stdout, stderr } = process;
  const output = new Output({ stdout, stderr, isJson: false, isColorWanted: !process.env['NO_COLOR'] });
  const steps = new StepRunner(output, signal);
  const serviceLines = new LineTail(40);
  const start: Stage['startPlatform'] = (env = process.env) =>
    startOwnPlatform({ config: loadConfig(env), output, steps, signal, serviceLines });
  try {
    process.exitCode = isRoot()
      ? await main({ output, steps, signal, startPlatform: start })
      : await runAsRoot({ what: `the ${title}`, env: process.env, note: (text) => output.note(text), signal });
  } catch (error) {
    if (signal.aborted) {
      output.note('interrupted');
      process.exitCode = signal.reason === 'SIGTERM' ? 143 : 130;
      return;
    }
    output.note(`${output.paint('red', `${title}:`)} ${errorText(error)}`);
    if (error instanceof StepFailed && serviceLines.lines().length > 0) {
      output.note(`the services' last lines:\n  ${serviceLines.lines().join('\n  ')}`);
    }
    output.note("'npx aviary doctor' checks this machine and says how to fix what it finds");
    process.exitCode = 1;
  }
}

async function startOwnPlatform({
  config,
  output,
  steps,
  signal,
  serviceLines,
}: Omit<Stage, 'startPlatform'> & { config: CliConfig; serviceLines: LineTail }): Promise<Platform> {
  // Keeps what a service writes for when something fails; shows warnings, errors and what is not of the service's own log at once.
  const onLine = (service: string, line: string) => {
    const text = `${service.padEnd(13)} | ${readableLogLine(line)}`;
    serviceLines.add(text);
    if (!/^\{"level":[123]0,/.test(line)) output.note(output.paint('yellow', text));
  };
  await using stack = new AsyncDisposableStack();
  const reservation = stack.use(await reservePlatform({ config, signal, onNote: (text) => output.note(text) }));
  await steps.run(
    'install host packages',
    () => ensureHostPackages(output, signal),
    (names) => (names.length > 0 ? `${names.length} installed` : 'all there'),
  );
  await steps.run('build guest images', () => ensureImages({ dataDir: config.dataDir }, output, signal));
  const onStep = (text: string) => output.note(`  ${text}`);
  const platform = await steps.run('start the platform', () =>
    startPlatform({ config, reservation, signal, onLine, onStep }),
  );
  // It gives the reservation back itself.
  stack.move();
  return platform;
}
