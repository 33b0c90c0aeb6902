/** A sandbox as answers show it. */
export const exampleSandbox = {
  id: 'sb-0190c2d4-7a1b-7c3d-8e5f-0123456789ab',
  status: 'running',
  status_reason: null,
  template: 'minimal',
  vcpus: 1,
  memory_mb: 512,
  disk_size_mb: 5120,
  timeout_sec: 300,
  metadata: { job: 'report-17' },
  start_path: 'restore',
  host_id: 'host-0190c2d0-11aa-7b22-9c33-444455556666',
  generation_id: null,
  created_at: '2026-01-01T12:00:00.000Z',
  started_at: '2026-01-01T12:00:01.000Z',
  last_active_at: '2026-01-01T12:00:01.000Z',
  last_activity: 'start',
  updated_at: '2026-01-01T12:00:01.000Z',
};

const generationId = 'gen-0190c2d5-0000-7111-8222-333344445555';

export const examplePaused = { ...exampleSandbox, status: 'paused', generation_id: generationId };

export const exampleGeneration = {
  id: generationId,
  parent_id: null,
  name: 'clean',
  pinned: true,
  cause: 'pause',
  current: true,
  has_memory: true,
  memory_bytes: 104_857_600,
  disk_bytes: 1_048_576,
  created_at: '2026-01-01T12:05:00.000Z',
};

export const exampleSnapshot = {
  id: 'tpl-0190c2d6-aaaa-7bbb-8ccc-ddddeeeeffff',
  name: 'with-tools',
  kind: 'snapshot',
  status: 'ready',
  status_reason: null,
  platform: false,
  vcpus: 1,
  memory_mb: 512,
  disk_size_mb: 5120,
  size_bytes: 268_435_456,
  created_at: '2026-01-01T12:10:00.000Z',
};

export const exampleEntry = {
  name: 'hello.txt',
  path: '/home/user/hello.txt',
  type: 'file',
  size: 6,
  mode: 420,
  permissions: 'rw-r--r--',
  owner: 'user',
  group: 'user',
  modified_at: 1_767_268_800,
  symlink_target: null,
};

export const exampleKey = {
  id: 'key-0190c2d7-1111-7222-8333-444455556666',
  name: 'nightly job',
  prefix: 'avy_5f0c1d2e',
  scopes: ['sandboxes' as const],
  created_by: { user_id: 'usr-0190c2d0-0000-7111-8222-333344445555', email: 'ada@example.com' },
  created_at: '2026-01-01T12:00:00.000Z',
  expires_at: null,
  last_used_at: null,
};
