import { type AviaryClient, AviaryError, type ExecEnding, type ExecRequest } from '@aviary/sdk';
import { type CommandContext, type Flag, type Flags, type InputStream, parsePairs } from '../command.ts';
import { exitCodes, UsageError } from '../exit-codes.ts';

/** Flags that say how a command runs in the guest. */
export const guestCommandFlags = {
  cwd: { type: 'string', placeholder: 'DIR', summary: 'working directory in the guest' },
  user: { type: 'string', short: 'u', placeholder: 'NAME', summary: 'user in the guest: NAME, UID or UID:GID' },
  timeout: { type: 'integer', placeholder: 'SEC', summary: 'kill the command after so long (default: never)' },
  stdin: { type: 'boolean', short: 'i', summary: 'pass standard input on, even from a terminal' },
  'no-stdin': { type: 'boolean', summary: 'leave standard input alone (default: passed on unless a terminal)' },
} as const satisfies Record<string, Flag>;

export const guestCommandSummary = 'one word: a shell line; several: a program with its arguments';

/** The guest command after `--`, as a request. `envs` of {@link Flags} are added by the caller's own flags. */
export function readGuestCommand(flags: Flags, rest: readonly string[]): ExecRequest {
  const [cmd = '', ...args] = rest;
  const cwd = flags.string('cwd');
  const user = flags.string('user');
  const envs = flags.strings('env');
  const timeoutSec = flags.integer('timeout');
  return {
    cmd,
    ...(args.length === 0 ? {} : { args }),
    ...(cwd === undefined ? {} : { cwd }),
    ...(user === undefined ? {} : { user }),
    ...(envs.length === 0 ? {} : { envs: parsePairs('env', envs) }),
    ...(timeoutSec === undefined ? {} : { timeout_sec: timeoutSec }),
  };
}

/** The program's standard input where it goes to the guest: unless it is a terminal, or as the flags say. */
export function guestInput({ stdin }: Pick<CommandContext, 'stdin'>, flags: Flags): InputStream | undefined {
  if (flags.boolean('stdin') && flags.boolean('no-stdin'))
    throw new UsageError('--stdin and --no-stdin exclude each other');
  if (flags.boolean('no-stdin') || (stdin?.isTTY && !flags.boolean('stdin'))) return undefined;
  return stdin;
}

/** Output kept of a command with --json, per stream. */
const maxKeptBytes = 8 * 1024 * 1024;

export interface GuestOutcome extends ExecEnding {
  sandbox_id: string;
  duration_ms: number;
  /** With --json only; without, it was printed as it came. */
  stdout: string;
  stderr: string;
  truncated: boolean;
}

/** What the program ends with after a guest command. */
export function exitCodeOfOutcome({ exit_code, timed_out }: ExecEnding): number {
  return timed_out ? exitCodes.timeout : exit_code;
}

/**
 * Runs a command in a sandbox: its output goes out as it comes, or with --json is kept for the result. Ends with the command, whatever
 * the input still holds. Throws AviaryError.
 */
export async function streamToTerminal(
  { output, signal }: Pick<CommandContext, 'output' | 'signal'>,
  client: AviaryClient,
  { sandboxId, request, stdin }: { sandboxId: string; request: ExecRequest; stdin: InputStream | undefined },
): Promise<GuestOutcome> {
  const kept = { stdout: new KeptOutput(), stderr: new KeptOutput() };
  const startedMs = performance.now();
  try {
    const streamed = { ...request, ...(stdin ? { stdin } : {}) };
    for await (const event of client.sandboxes.execStream(sandboxId, streamed, { signal })) {
      switch (event.type) {
        case 'start':
          break;
        case 'stdout':
        case 'stderr':
          if (output.isJson) kept[event.type].add(event.data);
          else output.raw(event.type, event.data);
          break;
        case 'exit': {
          const { exit_code, signal: endedBy, timed_out } = event;
          if (timed_out) output.note(`aviary: the command was killed at its limit of ${request.timeout_sec} s`);
          else if (endedBy !== null) output.note(`aviary: the command was ended by ${endedBy}`);
          return {
            sandbox_id: sandboxId,
            ...{ exit_code, signal: endedBy, timed_out },
            duration_ms: Math.round(performance.now() - startedMs),
            stdout: kept.stdout.text(),
            stderr: kept.stderr.text(),
            truncated: kept.stdout.isTruncated || kept.stderr.isTruncated,
          };
        }
      }
    }
    throw new AviaryError('bad_response', 'the command stream ended without an exit code');
  } finally {
    // An open input would keep this program from ending.
    stdin?.destroy();
  }
}

class KeptOutput {
  readonly #pieces: Uint8Array[] = [];
  #bytes = 0;
  isTruncated = false;

  add(data: Uint8Array): void {
    const room = maxKeptBytes - this.#bytes;
    if (data.length > room) this.isTruncated = true;
    const piece = data.subarray(0, room);
    this.#bytes += piece.length;
    if (piece.length > 0) this.#pieces.push(piece);
  }

  text(): string {
    return Buffer.concat(this.#pieces).toString('utf8');
  }
}
