import { execLimits, fileLimits, type IdKind, idPrefixes, sandboxLimits, sandboxStatuses } from '@aviary/core';
import { type Static, Type } from 'typebox';

const closed = { additionalProperties: false };
const timestamp = Type.String({ format: 'date-time' });
const nullable = <T extends ReturnType<typeof Type.String | typeof Type.Integer>>(schema: T) =>
  Type.Union([schema, Type.Null()]);
const wireId = (kind: IdKind) => Type.String({ pattern: `^${idPrefixes[kind]}-[0-9a-f-]{36}$` });
/** Text that can reach a guest's C strings: no NUL. */
const text = (maxLength: number, minLength = 0) => Type.String({ minLength, maxLength, pattern: '^[^\\u0000]*$' });
const range = ({ min, max }: { min: number; max: number }) => Type.Integer({ minimum: min, maximum: max });
const safeName = Type.String({ pattern: '^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$' });
const envs = Type.Record(Type.String(), text(sandboxLimits.envBytes), {
  propertyNames: { pattern: '^[^=\\u0000]+$', maxLength: 256 },
  maxProperties: sandboxLimits.envEntries,
  description: `Environment variables; names and values together at most ${sandboxLimits.envBytes} bytes.`,
});
const path = text(fileLimits.maxPathBytes, 1);
const user = Type.Optional(text(64, 1));
const cursor = Type.Optional(Type.String({ maxLength: 512 }));
const limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 }));

export const ErrorReply = Type.Object({
  error: Type.Object({
    code: Type.String(),
    message: Type.String(),
    request_id: Type.String(),
    details: Type.Record(Type.String(), Type.Unknown()),
  }),
});

export const Sandbox = Type.Object({
  id: wireId('sandbox'),
  status: Type.Enum([...sandboxStatuses]),
  status_reason: nullable(Type.String()),
  template: Type.String(),
  vcpus: Type.Integer(),
  memory_mb: Type.Integer(),
  disk_size_mb: Type.Integer(),
  timeout_sec: Type.Integer(),
  metadata: Type.Record(Type.String(), Type.String()),
  start_path: nullable(Type.String()),
  host_id: wireId('host'),
  generation_id: nullable(wireId('generation')),
  created_at: timestamp,
  started_at: nullable(timestamp),
  last_active_at: nullable(timestamp),
  last_activity: nullable(Type.String()),
  updated_at: timestamp,
});
export type Sandbox = Static<typeof Sandbox>;

export const SandboxPage = Type.Object({ items: Type.Array(Sandbox), next_cursor: nullable(Type.String()) });
export const SandboxItems = Type.Object({ items: Type.Array(Sandbox) });

export const CreateSandbox = Type.Object(
  {
    template: Type.Optional(Type.String({ pattern: '^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$', default: 'minimal' })),
    vcpus: Type.Optional(range(sandboxLimits.vcpus)),
    memory_mb: Type.Optional(range(sandboxLimits.memoryMib)),
    disk_size_mb: Type.Optional(range(sandboxLimits.diskMib)),
    timeout_sec: Type.Optional(range(sandboxLimits.timeoutSec)),
    metadata: Type.Optional(
      Type.Record(Type.String(), text(sandboxLimits.metadataBytes), {
        propertyNames: { pattern: '^[^\\u0000]+$', maxLength: 256 },
        maxProperties: sandboxLimits.metadataEntries,
        description: `Your own labels; names and values together at most ${sandboxLimits.metadataBytes} bytes.`,
      }),
    ),
    envs: Type.Optional(envs),
  },
  closed,
);
export type CreateSandbox = Static<typeof CreateSandbox>;

export const ListQuery = Type.Object({
  limit,
  cursor,
  status: Type.Optional(Type.String({ maxLength: 256, description: 'Statuses separated by commas.' })),
});

const command = {
  cmd: text(execLimits.maxCommandBytes, 1),
  args: Type.Optional(Type.Array(text(execLimits.maxCommandBytes), { maxItems: execLimits.maxArgs })),
  envs: Type.Optional(envs),
  cwd: Type.Optional(path),
  user,
  timeout_sec: Type.Optional(range(execLimits.timeoutSec)),
};
export const Exec = Type.Object(
  { ...command, stdin: Type.Optional(Type.String({ maxLength: execLimits.maxStdinBytes })) },
  closed,
);
export type Exec = Static<typeof Exec>;
/** The first frame that a client sends on the exec stream. */
export const ExecStart = Type.Object({ type: Type.Literal('start'), ...command }, closed);
export type ExecStart = Static<typeof ExecStart>;

export const ExecResult = Type.Object({
  sandbox_id: wireId('sandbox'),
  cmd: Type.String(),
  stdout: Type.String(),
  stderr: Type.String(),
  exit_code: Type.Integer(),
  duration_ms: Type.Integer(),
  encoding: Type.Enum(['utf-8', 'base64']),
  truncated: Type.Boolean(),
});

export const FilePath = Type.Object({ path, user }, closed);
export type FilePath = Static<typeof FilePath>;
export const ListFiles = Type.Object(
  { path, user, depth: Type.Optional(Type.Integer({ minimum: 1, maximum: fileLimits.maxListDepth, default: 1 })) },
  closed,
);
export type ListFiles = Static<typeof ListFiles>;
export const FileEntry = Type.Object({
  name: Type.String(),
  path: Type.String(),
  type: Type.Enum(['file', 'directory', 'symlink', 'unknown']),
  size: Type.Integer(),
  mode: Type.Integer(),
  permissions: Type.String(),
  owner: Type.String(),
  group: Type.String(),
  modified_at: Type.Integer({ description: 'Unix seconds.' }),
  symlink_target: nullable(Type.String()),
});
export const FileEntries = Type.Object({ entries: Type.Array(FileEntry) });
export const FileEntryReply = Type.Object({ entry: FileEntry });
export const FileUploadQuery = Type.Object({
  path: Type.Optional(
    Type.String({
      description: 'Instead of the part `path`, for names with line ends: form data does not keep those.',
    }),
  ),
});
export const FileUpload = Type.Object({
  path: Type.Optional(Type.String({ description: 'Must come before `file`. Required unless it is in the query.' })),
  user: Type.Optional(Type.String()),
  file: Type.String({ format: 'binary' }),
});

export const SetTimeout = Type.Object({ timeout_sec: range(sandboxLimits.timeoutSec) }, closed);
export type SetTimeout = Static<typeof SetTimeout>;
export const Fork = Type.Object(
  { count: Type.Optional(range(sandboxLimits.forkCount)), timeout_sec: Type.Optional(range(sandboxLimits.timeoutSec)) },
  closed,
);
export type Fork = Static<typeof Fork>;

export const Generation = Type.Object({
  id: wireId('generation'),
  parent_id: nullable(wireId('generation')),
  name: nullable(Type.String()),
  pinned: Type.Boolean(),
  cause: Type.String(),
  current: Type.Boolean(),
  has_memory: Type.Boolean(),
  memory_bytes: Type.Integer(),
  disk_bytes: Type.Integer(),
  created_at: timestamp,
});
export const GenerationItems = Type.Object({ items: Type.Array(Generation) });
export const UpdateGeneration = Type.Object(
  { name: Type.Optional(Type.Union([safeName, Type.Null()])), pinned: Type.Optional(Type.Boolean()) },
  { ...closed, minProperties: 1 },
);
export type UpdateGeneration = Static<typeof UpdateGeneration>;
export const Resume = Type.Object(
  {
    generation: Type.Optional(
      Type.String({ minLength: 1, maxLength: 64, description: 'A generation id or name; the latest when absent.' }),
    ),
    cold: Type.Optional(
      Type.Boolean({ default: false, description: 'Boot from the saved disk and leave the memory aside.' }),
    ),
  },
  closed,
);
export type Resume = Static<typeof Resume>;
export const Rewind = Type.Object(
  { generation: Type.String({ minLength: 1, maxLength: 64, description: 'A generation id or name.' }) },
  closed,
);
export type Rewind = Static<typeof Rewind>;

export const CreateSnapshot = Type.Object(
  { sandbox_id: wireId('sandbox'), name: safeName, overwrite: Type.Optional(Type.Boolean({ default: false })) },
  closed,
);
export type CreateSnapshot = Static<typeof CreateSnapshot>;
export const Snapshot = Type.Object({
  id: wireId('template'),
  name: Type.String(),
  kind: Type.Enum(['base', 'snapshot']),
  status: Type.Enum(['creating', 'ready', 'deleting', 'error']),
  status_reason: nullable(Type.String()),
  platform: Type.Boolean(),
  vcpus: Type.Integer(),
  memory_mb: Type.Integer(),
  disk_size_mb: Type.Integer(),
  size_bytes: Type.Integer(),
  created_at: timestamp,
});
export const SnapshotPage = Type.Object({ items: Type.Array(Snapshot), next_cursor: nullable(Type.String()) });
export const SnapshotQuery = Type.Object({ limit, cursor, type: Type.Optional(Type.Enum(['base', 'snapshot'])) });

const hostSize = { minimum: 1, maximum: 2 ** 31 - 1 };
export const RegisterHost = Type.Object(
  {
    token: Type.String({ minLength: 1, maxLength: 256 }),
    address: Type.String({ minLength: 1, maxLength: 255, pattern: '^(https?://)?[a-zA-Z0-9.:\\[\\]-]+$' }),
    arch: Type.String({ minLength: 1, maxLength: 32 }),
    cpu_cores: Type.Integer(hostSize),
    memory_mb: Type.Integer(hostSize),
    disk_gb: Type.Integer(hostSize),
    agent_version: Type.String({ maxLength: 64 }),
  },
  closed,
);
export type RegisterHost = Static<typeof RegisterHost>;
export const HostCredentials = Type.Object({
  host_id: wireId('host'),
  token: Type.String(),
  token_expires_at: timestamp,
  refresh_token: Type.String(),
  control_plane_public_key: Type.Record(Type.String(), Type.Unknown()),
  epoch: Type.Integer(),
});
export const RefreshHost = Type.Object({ refresh_token: Type.String({ minLength: 1, maxLength: 256 }) }, closed);
export type RefreshHost = Static<typeof RefreshHost>;
// Open: agents of a newer version report more than this control plane knows.
export const Heartbeat = Type.Object({
  agent_version: Type.Optional(Type.String({ maxLength: 64 })),
  sandboxes_running: Type.Optional(Type.Integer({ minimum: 0 })),
});
export type Heartbeat = Static<typeof Heartbeat>;
export const sandboxEventNames = [
  'sandbox.started',
  'sandbox.resumed',
  'sandbox.paused',
  'sandbox.auto_paused',
  'sandbox.stopped',
  'sandbox.failed',
  'sandbox.error',
  'sandbox.pause_failed',
  'sandbox.resume_failed',
] as const;
export type SandboxEventName = (typeof sandboxEventNames)[number];
export const SandboxEvents = Type.Object({
  events: Type.Array(
    Type.Object({
      id: Type.String({ minLength: 1, maxLength: 128, pattern: '^[^\\u0000]*$' }),
      event: Type.String({ maxLength: 64, description: 'One of sandboxEventNames; others are taken and left aside.' }),
      sandbox_id: Type.String({ maxLength: 64 }),
      reason: Type.Optional(text(4_096)),
      occurred_at: timestamp,
      start_path: Type.Optional(text(64)),
      generation_id: Type.Optional(Type.String({ maxLength: 64 })),
    }),
    { maxItems: 100 },
  ),
});
export type SandboxEvents = Static<typeof SandboxEvents>;
export const Host = Type.Object({
  id: wireId('host'),
  status: Type.Enum(['pending', 'online', 'unreachable', 'draining']),
  address: Type.String(),
  arch: Type.String(),
  cpu_cores: Type.Integer(),
  memory_mb: Type.Integer(),
  disk_gb: Type.Integer(),
  agent_version: Type.String(),
  last_heartbeat_at: nullable(timestamp),
});
export const HostItems = Type.Object({ items: Type.Array(Host) });

export const Health = Type.Object({ status: Type.Literal('ok'), version: Type.String() });

export const SandboxParams = Type.Object({ id: wireId('sandbox') });
export const GenerationParams = Type.Object({ id: wireId('sandbox'), generation: wireId('generation') });
export const HostParams = Type.Object({ id: wireId('host') });
export const NameParams = Type.Object({ name: safeName });
