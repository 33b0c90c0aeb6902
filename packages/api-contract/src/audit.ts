import { auditActions, wireIdSource } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { byMember } from './access.ts';
import { component } from './component.ts';
import { cursor, limit, nullable, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';

const actions = Object.keys(auditActions);

export const AuditLogEntry = component(
  'AuditLogEntry',
  Type.Object({
    id: wireId('auditEntry'),
    action: Type.String({ description: 'As in `sandbox.create`: the kind of thing, and what was done to it.' }),
    actor: Type.Object({
      type: Type.Enum(['user', 'api_key', 'host', 'system']),
      id: nullable(Type.String()),
      name: Type.String({ description: 'As it was then.' }),
    }),
    resource: Type.Object({ type: Type.String(), id: nullable(Type.String()) }),
    scope: Type.Enum(['team', 'admin'], { description: '`admin`: shown to admins and the owner of the team alone.' }),
    status: Type.Enum(['success', 'info', 'warning', 'error']),
    metadata: Type.Record(Type.String(), Type.Unknown()),
    created_at: timestamp,
  }),
);
export type AuditLogEntry = Static<typeof AuditLogEntry>;

export const AuditLogPage = component(
  'AuditLogPage',
  Type.Object({ items: Type.Array(AuditLogEntry), next_cursor: nullable(Type.String()) }),
);

const oneOrMore = (description: string) =>
  Type.Optional(
    Type.Union([Type.String({ maxLength: 2_000 }), Type.Array(Type.String({ maxLength: 100 }), { maxItems: 100 })], {
      description: `${description} Several are separated by commas, or given one by one.`,
    }),
  );

/** What entries are wanted. */
export const auditFilters = {
  resource_type: oneOrMore(`Of ${[...new Set(actions.map((action) => action.split('.', 1)[0]))].join(', ')}.`),
  action: oneOrMore('As in `sandbox.create`.'),
  actor: Type.Optional(
    Type.String({
      pattern: `^(system|${wireIdSource('user')}|${wireIdSource('apiKey')}|${wireIdSource('host')})$`,
      description: "A person's, a key's or a host's id, or `system`.",
    }),
  ),
  from: Type.Optional(timestamp),
  to: Type.Optional(timestamp),
};
export const AuditFilters = Type.Object(auditFilters);
export type AuditFilters = Static<typeof AuditFilters>;

/** Filters, and where the page begins. */
export const AuditQuery = Type.Object({
  limit,
  cursor: cursor('\\d{1,18}', wireIdSource('auditEntry')),
  ...auditFilters,
});
export type AuditQuery = Static<typeof AuditQuery>;

const tag = 'audit';

/** Who did what in a team, when. */
export const auditRoutes = {
  listAuditLogs: {
    tag,
    access: byMember(),
    method: 'GET',
    path: '/v1/audit-logs',
    summary: "Read the team's audit log",
    description:
      'Newest first. Members see what is for the whole team, admins and the owner all. Pages follow one another without a gap or a repeat: an entry is shown once every transaction that began before its own is over.',
    query: AuditQuery,
    replies: { 200: AuditLogPage },
  },
  exportAuditLogs: {
    tag,
    access: byMember(),
    method: 'GET',
    path: '/v1/audit-logs/export',
    summary: "Export the team's audit log",
    description: 'One entry a line, newest first, as fast as it is read.',
    query: AuditFilters,
    replies: { 200: 'application/x-ndjson' },
  },
} as const satisfies RouteTable;
