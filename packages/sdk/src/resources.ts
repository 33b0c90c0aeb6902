// The API's own shapes, field for field, as its contract has them; only the types, so that nothing of it is needed to run.
import type { SandboxStatus } from '@aviary/core';

export type {
  CreateSandbox,
  FileEntry,
  Generation,
  Host,
  Sandbox,
  Snapshot,
} from '@aviary/api-contract';
export type { GenerationCause, SandboxStatus, StartPath } from '@aviary/core';

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
  user?: string;
  /** Seconds until the command is killed; 0 is never. Default 30. */
  timeout_sec?: number;
}

export interface BufferedExecRequest extends ExecRequest {
  /** Text given on standard input, which is then closed. */
  stdin?: string;
}

export interface ExecResult {
  sandbox_id: string;
  cmd: string;
  stdout: string;
  stderr: string;
  exit_code: number;
  duration_ms: number;
  /** `base64` when the output is not UTF-8. */
  encoding: 'utf-8' | 'base64';
  /** True when the output exceeded the limit and its rest was dropped. */
  truncated: boolean;
}

/** What happens to a streamed command. `exit` is always last. */
export type ExecEvent =
  | { type: 'start'; pid: number }
  | { type: 'stdout'; data: Uint8Array }
  | { type: 'stderr'; data: Uint8Array }
  | { type: 'exit'; exit_code: number; error?: string };
