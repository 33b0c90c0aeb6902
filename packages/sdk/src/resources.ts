import type { SandboxStatus } from '@aviary/core';

export type { SandboxStatus } from '@aviary/core';

// The API's own shapes, field for field, so that the OpenAPI document describes what a caller of this package holds.

/** One microVM with its disk, as the API shows it. Times are RFC 3339, sizes MiB. */
export interface Sandbox {
  id: string;
  status: SandboxStatus;
  /** Why it is in this status, for people; null when there is nothing to say. */
  status_reason: string | null;
  template: string;
  vcpus: number;
  memory_mb: number;
  disk_size_mb: number;
  /** Idle seconds before auto-pause; 0 is never. */
  timeout_sec: number;
  metadata: Record<string, string>;
  /** How it last came to run, e.g. `cold`; null before its first start. */
  start_path: string | null;
  host_id: string | null;
  created_at: string;
  started_at: string | null;
  last_active_at: string | null;
  last_activity: string | null;
  updated_at: string;
  generation_id: string | null;
}

export interface CreateSandbox {
  /** Default `minimal`. */
  template?: string;
  vcpus?: number;
  memory_mb?: number;
  disk_size_mb?: number;
  timeout_sec?: number;
  metadata?: Record<string, string>;
  /** Environment of every command in the sandbox. */
  envs?: Record<string, string>;
}

export interface ListSandboxes {
  status?: readonly SandboxStatus[];
  /** Items fetched per request, 1 to 100. The iterator goes on over all pages. */
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

export interface FileEntry {
  name: string;
  path: string;
  type: string;
  size: number;
  [field: string]: unknown;
}

/** An immutable saved state of a sandbox. */
export interface Generation {
  id: string;
  name?: string | null;
  pinned?: boolean;
  created_at: string;
  [field: string]: unknown;
}

/** A named generation from which sandboxes can be made. */
export interface Snapshot {
  name: string;
  created_at: string;
  [field: string]: unknown;
}
