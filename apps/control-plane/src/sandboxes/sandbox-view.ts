import type { Sandbox } from '@aviary/api-contract';
import { formatId, isStartPath } from '@aviary/core';
import type { ShownSandbox } from './sandbox-store.ts';

/** A sandbox as the API shows it. */
export function viewSandbox(row: ShownSandbox): Sandbox {
  return {
    id: formatId('sandbox', row.id),
    status: row.status,
    status_reason: row.status_reason,
    template: row.template_name,
    vcpus: row.vcpus,
    memory_mb: row.memory_mib,
    disk_size_mb: row.disk_mib,
    timeout_sec: row.timeout_sec,
    metadata: row.metadata,
    start_path: row.start_path === null || isStartPath(row.start_path) ? row.start_path : 'other',
    host_id: formatId('host', row.host_id),
    generation_id: row.generation_id && formatId('generation', row.generation_id),
    created_at: row.created_at.toISOString(),
    started_at: row.started_at?.toISOString() ?? null,
    last_active_at: row.last_active_at?.toISOString() ?? null,
    last_activity: row.last_activity,
    updated_at: row.updated_at.toISOString(),
  };
}
