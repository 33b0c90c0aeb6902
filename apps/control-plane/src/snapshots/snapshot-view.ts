import type { Snapshot } from '@aviary/api-contract';
import { formatId, platformTeamId } from '@aviary/core';
import type { TemplateRow } from '../templates/template-store.ts';

/** A template as the API shows it. */
export function viewSnapshot(row: TemplateRow): Snapshot {
  return {
    id: formatId('template', row.id),
    name: row.name,
    kind: row.kind,
    status: row.status,
    status_reason: row.status_reason,
    platform: row.team_id === platformTeamId,
    vcpus: row.vcpus,
    memory_mb: row.memory_mib,
    disk_size_mb: row.disk_mib,
    size_bytes: row.size_bytes,
    created_at: row.created_at.toISOString(),
  };
}
