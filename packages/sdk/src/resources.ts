// The API's own shapes, field for field, as its contract has them; only the types, so that nothing of it is needed to run.
import type { SandboxStatus } from '@aviary/core';

export type {
  AccountLink,
  AddedMember,
  AdminMail,
  AdminSandbox,
  AdminTeam,
  AdminUser,
  ApiKey,
  AuditLogEntry,
  Caller,
  CreateApiKey,
  CreatedApiKey,
  CreateSandbox,
  FileEntry,
  FoundUser,
  Generation,
  Host,
  Identity,
  IdentityProvider,
  Invitation,
  Me,
  Member,
  OwnerProof,
  Passkey,
  Quota,
  Sandbox,
  SecondFactorNeeded,
  SetQuota,
  SignedIn,
  Snapshot,
  Team,
  TeamDetails,
  UserSession,
} from '@aviary/api-contract';
export type { GenerationCause, SandboxStatus, StartPath } from '@aviary/core';

export interface LogInRequest {
  email: string;
  password: string;
}

export interface ListSandboxes {
  status?: readonly SandboxStatus[];
  /** Items fetched per request, 1 to 200. The iterator goes on over all pages. */
  pageSize?: number;
}

export interface ExecRequest {
  /** A shell line when `args` is absent; else the program. */
  cmd: string;
  args?: readonly string[];
  envs?: Record<string, string>;
  cwd?: string;
  /** A name, a user id, or either with `:` and a group. */
  user?: string;
  /**
   * Seconds until the command and everything it started is killed; 0 is never. Default: 30 for `exec`, which waits for the whole output;
   * never for `execStream` and `execDetached`.
   */
  timeout_sec?: number;
}

export interface BufferedExecRequest extends ExecRequest {
  /** Given on standard input, which is then closed. */
  stdin?: string | Uint8Array;
}

export interface StreamedExecRequest extends ExecRequest {
  /** Given on standard input as fast as the command takes it, then closed. */
  stdin?: string | Uint8Array | AsyncIterable<string | Uint8Array>;
  /** The command goes on when the reader leaves. */
  detach?: boolean;
}

/** How a command ended. */
export interface ExecEnding {
  /** 128 and its number when a signal ended it; 127 when there is no such program, 126 when it cannot be executed. */
  exit_code: number;
  /** Name of the signal that ended it. */
  signal: string | null;
  /** It ran into `timeout_sec` and was killed. */
  timed_out: boolean;
}

export interface ExecResult extends ExecEnding {
  sandbox_id: string;
  cmd: string;
  stdout: string;
  stderr: string;
  duration_ms: number;
  /** `base64` when the output is not UTF-8. */
  encoding: 'utf-8' | 'base64';
  /** True when output past 8 MiB of a stream was dropped. */
  truncated: boolean;
  dropped_stdout_bytes: number;
  dropped_stderr_bytes: number;
}

/** A command that goes on by itself. */
export interface DetachedExec {
  sandbox_id: string;
  cmd: string;
  pid: number;
}

/** What happens to a streamed command. `exit` is always last. */
export type ExecEvent =
  | { type: 'start'; pid: number }
  | { type: 'stdout'; data: Uint8Array }
  | { type: 'stderr'; data: Uint8Array }
  | ({ type: 'exit' } & ExecEnding);
