import type { ExecRequest } from '@aviary/sdk';
import { type AviaryClient, AviaryError } from '@aviary/sdk';
import { type CommandContext, type Flag, type Flags, parsePairs } from '../command.ts';

/** Flags that say how a command runs in the guest. */
export const guestCommandFlags = {
  cwd: { type: 'string', placeholder: 'DIR', summary: 'working directory in the guest' },
  user: { type: 'string', short: 'u', placeholder: 'NAME', summary: 'user in the guest' },
  timeout: { type: 'integer', placeholder: 'SEC', summary: 'kill the command after so long (default: never)' },
} as const satisfies Record<string, Flag>;

export const guestCommandSummary = 'one word: a shell line; several: a program with its arguments';

/** The guest command after `--`, as a request. `envs` of {@link Flags} are added by the caller's own flags. */
export function readGuestCommand(flags: Flags, rest: readonly string[]): ExecRequest {
  const [cmd = '', ...args] = rest;
  const cwd = flags.string('cwd');
  const user = flags.string('user');
  const envs = flags.strings('env');
  return {
    cmd,
    ...(args.length === 0 ? {} : { args }),
    ...(cwd === undefined ? {} : { cwd }),
    ...(user === undefined ? {} : { user }),
    ...(envs.length === 0 ? {} : { envs: parsePairs('env', envs) }),
    timeout_sec: flags.integer('timeout') ?? 0,
  };
}

/** Output kept of a command with --json, per stream. */
const maxKeptBytes = 8 * 1024 * 1024;

export interface GuestOutcome {
  sandbox_id: string;
  exit_code: number;
  duration_ms: number;
  /** With --json only; without, it was printed as it came. */
  stdout: string;
  stderr: string;
  truncated: boolean;
}

/** Runs a command in a sandbox: its output goes out as it comes, or with --json is kept for the result. Throws AviaryError. */
export async function streamToTerminal(
  { output, signal }: Pick<CommandContext, 'output' | 'signal'>,
  client: AviaryClient,
  { sandboxId, request }: { sandboxId: string; request: ExecRequest },
): Promise<GuestOutcome> {
  const kept = { stdout: new KeptOutput(), stderr: new KeptOutput() };
  const startedMs = performance.now();
  for await (const event of client.sandboxes.execStream(sandboxId, request, { signal })) {
    switch (event.type) {
      case 'start':
        break;
      case 'stdout':
      case 'stderr':
        if (output.isJson) kept[event.type].add(event.data);
        else output.raw(event.type, event.data);
        break;
      case 'exit':
        if (event.error) output.note(`aviary: ${event.error}`);
        return {
          sandbox_id: sandboxId,
          exit_code: event.exit_code,
          duration_ms: Math.round(performance.now() - startedMs),
          stdout: kept.stdout.text(),
          stderr: kept.stderr.text(),
          truncated: kept.stdout.isTruncated || kept.stderr.isTruncated,
        };
    }
  }
  throw new AviaryError('bad_response', 'the command stream ended without an exit code');
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
