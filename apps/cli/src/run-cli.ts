import { AppError, errorText } from '@aviary/core';
import { AviaryError } from '@aviary/sdk';
import { connectToApi } from './api-client.ts';
import { type CommandContext, type InputStream, resolveArguments } from './command.ts';
import { commands } from './commands.ts';
import { complete, completeWord, renderCompletion } from './completion/complete.ts';
import { loadConfig } from './config.ts';
import { ExitWith, exitCodeOf, exitCodes, UsageError } from './exit-codes.ts';
import { findCommand } from './find-command.ts';
import { renderHelp } from './help.ts';
import { Output, type OutputStream } from './output.ts';
import { parseInvocation } from './parse-invocation.ts';

export interface CliProcess {
  argv: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  stdout: OutputStream;
  stderr: OutputStream;
  stdin?: InputStream;
}

/** Runs one command and resolves with the exit code. Never throws. */
export async function runCli({ argv, env, stdout, stderr, stdin }: CliProcess): Promise<number> {
  if (argv[0] === completeWord) {
    stdout.write(renderCompletion(await complete(commands, argv.slice(argv[1] === '--' ? 2 : 1), { env })));
    return exitCodes.ok;
  }
  const own = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
  const isJson = own.includes('--json');
  const isColorWanted = !env['NO_COLOR'] && env['TERM'] !== 'dumb';
  const output = new Output({ stdout, stderr, isJson, isColorWanted });
  const interrupts = watchInterrupts(output, stdout);
  let name: string | undefined;
  try {
    const { command, argv: given } = findCommand(commands, argv);
    name = command.name;
    const invocation = parseInvocation(command, given);
    if (invocation.flags.boolean('help')) {
      output.result({ command: command.name, summary: command.summary }, () => renderHelp(command));
      return exitCodes.ok;
    }
    const config = loadConfig(env);
    const context = makeContext({ config, output, stdin, signal: interrupts.signal });
    const args = await resolveArguments(command, context, invocation.args);
    await command.run(context, { ...invocation, args });
    return exitCodes.ok;
  } catch (error) {
    const isKeySet = Boolean(env['AVIARY_API_KEY']);
    return report(error, { output, signal: interrupts.signal, command: name, isKeySet });
  } finally {
    interrupts[Symbol.dispose]();
  }
}

function makeContext(given: Omit<CommandContext, 'client'>): CommandContext {
  let client: ReturnType<typeof connectToApi> | undefined;
  return {
    ...given,
    client: () => {
      client ??= connectToApi(given.config);
      return client;
    },
  };
}

function report(
  error: unknown,
  { output, signal, ...asked }: { output: Output; signal: AbortSignal; command: string | undefined; isKeySet: boolean },
): number {
  if (error instanceof ExitWith) return error.exitCode;
  if (signal.aborted && (error === signal.reason || (error instanceof Error && error.name === 'AbortError'))) {
    if (signal.reason === 'SIGPIPE') return exitCodes.brokenPipe;
    output.note('aviary: interrupted');
    return signal.reason === 'SIGTERM' ? exitCodes.terminated : exitCodes.interrupted;
  }
  const exitCode = exitCodeOf(error);
  const advice = adviceFor(error, asked);
  if (output.isJson) output.note(JSON.stringify({ error: describeError(error, advice) }));
  else {
    output.note(`${output.paint('red', 'aviary:')} ${inFlags(errorText(error))}`);
    if (advice) output.note(`  ${advice}`);
    const requestId = error instanceof AviaryError ? error.requestId : undefined;
    if (requestId) output.note(output.paint('dim', `  request id: ${requestId}`));
  }
  return exitCode;
}

function describeError(error: unknown, advice: string | undefined): Record<string, unknown> {
  const isCoded = error instanceof AviaryError || error instanceof AppError;
  return {
    code: isCoded ? error.code : error instanceof UsageError ? 'invalid_request' : 'internal',
    message: errorText(error),
    ...(advice ? { advice } : {}),
    ...(error instanceof AviaryError && error.requestId ? { request_id: error.requestId } : {}),
    ...(isCoded && Object.keys(error.details).length > 0 ? { details: error.details } : {}),
  };
}

/** Flags by the fields of the API that they alone set: whoever typed a flag does not know the field. */
const flagsOfFields: Readonly<Record<string, string>> = {
  memory_mb: '--memory',
  disk_size_mb: '--disk',
  vcpus: '--vcpus',
};

function inFlags(message: string): string {
  const [start = '', field = ''] = /^(?:body\/)?(\w+)/.exec(message) ?? [];
  const flag = Object.hasOwn(flagsOfFields, field) ? flagsOfFields[field] : undefined;
  return flag === undefined ? message : `${flag}${message.slice(start.length)}`;
}

/** Commands by which one proves who one is, or that an address is one's own. */
const loggingIn: readonly string[] = ['signup', 'login', 'admin claim', 'password set', 'email verify'];

function adviceFor(
  error: unknown,
  { command, isKeySet }: { command: string | undefined; isKeySet: boolean },
): string | undefined {
  if (!(error instanceof AviaryError)) return undefined;
  // Whoever proves who they are knows what with.
  if (error.code === 'unauthorized' && command !== undefined && loggingIn.includes(command)) return undefined;
  switch (error.code) {
    case 'unreachable':
      return "is it running? Start it on this machine with 'aviary up', or set AVIARY_API_URL";
    case 'bad_response':
      return 'AVIARY_API_URL must be the URL of an Aviary control plane';
    case 'unauthorized':
      return isKeySet
        ? 'check AVIARY_API_KEY, which comes before any log-in: a key of this installation, not revoked'
        : "log in with 'aviary login'";
    case 'invalid_state':
      return error.details['status'] === 'paused' ? "resume it first: 'aviary sandbox resume ID'" : undefined;
    case 'no_capacity':
    case 'host_unavailable':
      return "no host can take it now; 'aviary doctor' looks at this machine";
    default:
      return undefined;
  }
}

/**
 * The first SIGINT or SIGTERM asks for an orderly end, the third ends at once. Results that nobody reads any more, as in
 * `aviary logs | head`, ask for an orderly end too.
 */
function watchInterrupts(output: Output, stdout: OutputStream): { signal: AbortSignal } & Disposable {
  const controller = new AbortController();
  stdout.on?.('error', (error) => {
    if (error.code !== 'EPIPE') throw error;
    controller.abort('SIGPIPE');
  });
  let count = 0;
  const onSignal = (name: NodeJS.Signals) => {
    count++;
    if (count === 1) controller.abort(name);
    else if (count === 2) output.note('aviary: cleaning up; once more to leave at once');
    else process.exit(name === 'SIGTERM' ? exitCodes.terminated : exitCodes.interrupted);
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    },
  };
}
