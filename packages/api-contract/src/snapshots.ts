import { safeNameSource, wireIdSource } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { byTeam } from './access.ts';
import { component } from './component.ts';
import { exampleSandbox, exampleSnapshot } from './examples.ts';
import { closed, cursor, limit, nullable, safeName, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';
import { hostErrors } from './sandbox-route.ts';

export const CreateSnapshot = component(
  'CreateSnapshot',
  Type.Object(
    { sandbox_id: wireId('sandbox'), name: safeName, overwrite: Type.Optional(Type.Boolean({ default: false })) },
    closed,
  ),
);
export type CreateSnapshot = Static<typeof CreateSnapshot>;

export const Snapshot = component(
  'Snapshot',
  Type.Object({
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
  }),
);
export type Snapshot = Static<typeof Snapshot>;

export const SnapshotPage = component(
  'SnapshotPage',
  Type.Object({ items: Type.Array(Snapshot), next_cursor: nullable(Type.String()) }),
);

export const SnapshotQuery = Type.Object({
  limit,
  cursor: cursor(safeNameSource, wireIdSource('template')),
  type: Type.Optional(Type.Enum(['base', 'snapshot'])),
});

export const NameParams = Type.Object({ name: safeName });

const tag = 'snapshots';

/** Templates: those of the platform, and those that teams make of their sandboxes. */
export const snapshotRoutes = {
  createSnapshot: {
    tag,
    access: byTeam('templates'),
    method: 'POST',
    path: '/v1/snapshots',
    summary: 'Make a template from a sandbox',
    body: CreateSnapshot,
    example: { request: { sandbox_id: exampleSandbox.id, name: 'with-tools' }, reply: exampleSnapshot },
    replies: { 202: Snapshot, 201: Snapshot },
    errors: [404, ...hostErrors],
    canWait: true,
  },
  listSnapshots: {
    tag,
    access: byTeam('templates'),
    method: 'GET',
    path: '/v1/snapshots',
    summary: 'List templates of the team and the platform',
    query: SnapshotQuery,
    example: { reply: { items: [exampleSnapshot], next_cursor: null } },
    replies: { 200: SnapshotPage },
  },
  deleteSnapshot: {
    tag,
    access: byTeam('templates'),
    method: 'DELETE',
    path: '/v1/snapshots/{name}',
    summary: 'Delete a template of the team',
    params: NameParams,
    replies: { 202: Snapshot, 200: Snapshot },
    errors: hostErrors,
    canWait: true,
  },
} as const satisfies RouteTable;
