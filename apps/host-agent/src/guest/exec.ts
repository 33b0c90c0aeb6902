import { AppError, execLimits } from '@aviary/core';
import type { ProcessEvent, ProcessEvent_EndEvent } from '@aviary/proto/process';
import type { GuestClient } from './guest-client.ts';
import { fromGuestError } from './guest-errors.ts';

export interface ExecOptions {
  cmd: string;
  args: readonly string[];
  envs: Record<string, string>;
  cwd?: string;
  /** A user of the guest. */
  user: string;
  /** 0 = no limit. At the limit the guest kills the process and all it started. */
  timeoutSec: number;
  stdin?: Uint8Array;
}

export type ExecEvent =
  | { kind: 'start'; pid: number }
  | { kind: 'stdout' | 'stderr'; data: Uint8Array }
  | { kind: 'end'; exitCode: number; error: string };

/** Runs a command in the guest and yields what happens, `start` first, `end` last. Leaving early does not end the command. */
export async function* execStream(
  guest: GuestClient,
  options: ExecOptions,
  signal?: AbortSignal,
): AsyncGenerator<ExecEvent> {
  const { cmd, args, envs, cwd, user, timeoutSec, stdin } = options;
  const headers = { Authorization: `Basic ${Buffer.from(`${user}:`).toString('base64')}` };
  const hasInput = stdin !== undefined && stdin.byteLength > 0;
  try {
    const responses = guest.processes.start(
      { process: { cmd, args: [...args], envs, ...(cwd === undefined ? {} : { cwd }) }, stdin: hasInput },
      { headers, ...(timeoutSec > 0 ? { timeoutMs: timeoutSec * 1_000 } : {}), ...(signal ? { signal } : {}) },
    );
    for await (const { event } of responses) {
      if (event?.event.case === 'start' && hasInput) {
        await sendInput(guest, event.event.value.pid, stdin, headers);
      }
      const translated = translate(event);
      if (translated) yield translated;
    }
  } catch (error) {
    throw execError(fromGuestError(error, 'run the command'), timeoutSec);
  }
}

/** The same in terms of the command: only the sandbox itself is ever "not found" to a caller, and its limit has a length. */
function execError(error: AppError, timeoutSec: number): AppError {
  switch (error.code) {
    case 'not_found':
      return new AppError('invalid_request', error.message, {
        details: { field: 'cmd', ...error.details },
        cause: error,
      });
    case 'deadline_exceeded':
      return new AppError('deadline_exceeded', `the command was killed at its limit of ${timeoutSec} s`, {
        details: { timeout_sec: timeoutSec },
        cause: error,
      });
    default:
      return error;
  }
}

const inputChunkBytes = 512 * 1024;

async function sendInput(
  guest: GuestClient,
  pid: number,
  stdin: Uint8Array,
  headers: Record<string, string>,
): Promise<void> {
  const process = { selector: { case: 'pid' as const, value: pid } };
  try {
    for (let offset = 0; offset < stdin.byteLength; offset += inputChunkBytes) {
      const value = stdin.subarray(offset, offset + inputChunkBytes);
      await guest.processes.sendInput(
        { process, input: { input: { case: 'stdin', value } } },
        { headers, timeoutMs: 30_000 },
      );
    }
    await guest.processes.closeStdin({ process }, { headers, timeoutMs: 5_000 });
  } catch (error) {
    // A command that ends without reading its input is not an error: its own exit code tells.
    const code = fromGuestError(error, 'send the input').code;
    if (code !== 'not_found' && code !== 'invalid_state') throw error;
  }
}

function translate(event: ProcessEvent | undefined): ExecEvent | undefined {
  switch (event?.event.case) {
    case 'start':
      return { kind: 'start', pid: event.event.value.pid };
    case 'data': {
      const { output } = event.event.value;
      if (output.case === undefined) return undefined;
      return { kind: output.case === 'stderr' ? 'stderr' : 'stdout', data: output.value };
    }
    case 'end':
      return { kind: 'end', ...endOf(event.event.value) };
    default:
      return undefined;
  }
}

/** An exit code says it all; only what kept a process from exiting by itself (a signal) needs words. */
function endOf({ exitCode, exited, error }: ProcessEvent_EndEvent): { exitCode: number; error: string } {
  return { exitCode, error: exited ? '' : (error ?? '') };
}

export interface ExecResult {
  stdout: Buffer;
  stderr: Buffer;
  exitCode: number;
  isTruncated: boolean;
  durationMs: number;
}

/** Runs a command in the guest to its end. Output past {@link execLimits.maxOutputBytes} per stream is dropped, and said so. */
export async function execBuffered(guest: GuestClient, options: ExecOptions): Promise<ExecResult> {
  const startedAt = performance.now();
  const kept = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  const sizes = { stdout: 0, stderr: 0 };
  let isTruncated = false;
  for await (const event of execStream(guest, options)) {
    if (event.kind === 'stdout' || event.kind === 'stderr') {
      const room = execLimits.maxOutputBytes - sizes[event.kind];
      const part = event.data.subarray(0, room);
      if (part.byteLength < event.data.byteLength) isTruncated = true;
      if (part.byteLength > 0) kept[event.kind].push(part);
      sizes[event.kind] += part.byteLength;
    } else if (event.kind === 'end') {
      return {
        stdout: Buffer.concat(kept.stdout),
        stderr: Buffer.concat(kept.stderr),
        exitCode: event.exitCode,
        isTruncated,
        durationMs: Math.round(performance.now() - startedAt),
      };
    }
  }
  throw new AppError('guest_unavailable', 'the guest agent ended the stream without an exit code');
}
