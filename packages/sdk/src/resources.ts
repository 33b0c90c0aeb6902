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
  host_id: string;
  generation_id: string | null;
  created_at: string;
  started_at: string | null;
  last_active_at: string | null;
  last_activity: string | null;
  updated_at: string;
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

export interface FileEntry {
  name: string;
  path: string;
  type: 'file' | 'directory' | 'symlink' | 'unknown';
  size: number;
  /** Permission bits, as in stat(2). */
  mode: number;
  /** The same as text, `rwxr-xr-x`. */
  permissions: string;
  owner: string;
  group: string;
  /** Unix seconds. */
  modified_at: number;
  symlink_target: string | null;
}

/** An immutable saved state of a sandbox. */
export interface Generation {
  id: string;
  parent_id: string | null;
  name: string | null;
  pinned: boolean;
  /** Why it was saved, e.g. `pause`. */
  cause: string;
  /** True for the one that the sandbox goes on from. */
  current: boolean;
  has_memory: boolean;
  memory_bytes: number;
  disk_bytes: number;
  created_at: string;
}

/** A named state from which sandboxes can be made, by giving its name as their template. */
export interface Snapshot {
  id: string;
  name: string;
  kind: 'base' | 'snapshot';
  status: 'creating' | 'ready' | 'deleting' | 'error';
  status_reason: string | null;
  /** True for those that come with the platform. */
  platform: boolean;
  vcpus: number;
  memory_mb: number;
  disk_size_mb: number;
  size_bytes: number;
  created_at: string;
}

/** A machine that runs sandboxes. */
export interface Host {
  id: string;
  status: 'pending' | 'online' | 'unreachable' | 'draining';
  address: string;
  arch: string;
  cpu_cores: number;
  memory_mb: number;
  disk_gb: number;
  agent_version: string;
  last_heartbeat_at: string | null;
}
