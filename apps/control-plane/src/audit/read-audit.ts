import { Readable } from 'node:stream';
import type { AuditFilters, AuditLogPage, AuditQuery } from '@aviary/api-contract';
import {
  AppError,
  type AuditScope,
  auditActions,
  auditResource,
  formatId,
  must,
  parseId,
  type TeamId,
} from '@aviary/core';
import type { Static } from 'typebox';
import type { Db } from '../context.ts';
import { joinCursor, pageOf, splitCursor } from '../http/cursor.ts';
import { type AuditPosition, type AuditSelection, listAuditLog } from './audit-log-store.ts';
import { viewAuditEntry } from './audit-view.ts';

/** Entries that an export reads at a time. */
const exportBatch = 500;

/** Whose log, and how much of it the reader may see. */
export interface AuditReader {
  teamId: TeamId;
  scope: AuditScope | null;
}

const actionNames = Object.keys(auditActions) as (keyof typeof auditActions)[];
const resourceTypes = new Set<string>(actionNames.map(auditResource));

/** One page of a log. */
export async function readAuditPage(
  db: Db,
  reader: AuditReader,
  { limit = 50, cursor, ...filters }: AuditQuery,
): Promise<Static<typeof AuditLogPage>> {
  const after = readPosition(cursor);
  const rows = await listAuditLog(db, select(reader, filters), { limit: limit + 1, ...(after ? { after } : {}) });
  return pageOf(rows, {
    limit,
    view: viewAuditEntry,
    cursorOf: ({ position, id }) => joinCursor(String(position), formatId('auditEntry', id)),
  });
}

/** A log as lines of JSON, read from the database no faster than its reader takes it. */
export function exportAudit(db: Db, reader: AuditReader, filters: AuditFilters): Readable {
  return Readable.from(exportLines(db, select(reader, filters)), { objectMode: false, highWaterMark: 64 * 1024 });
}

async function* exportLines(db: Db, selection: AuditSelection): AsyncGenerator<string> {
  for (let after: AuditPosition | undefined; ; ) {
    const rows = await listAuditLog(db, selection, { limit: exportBatch, ...(after ? { after } : {}) });
    if (rows.length > 0) yield `${rows.map((row) => JSON.stringify(viewAuditEntry(row))).join('\n')}\n`;
    if (rows.length < exportBatch) return;
    after = rows.at(-1);
  }
}

function select(reader: AuditReader, filters: AuditFilters): AuditSelection {
  const { resource_type, action, actor, from, to } = filters;
  return {
    ...reader,
    ...(resource_type === undefined ? {} : { resourceTypes: readList('resource_type', resource_type, resourceTypes) }),
    ...(action === undefined ? {} : { actions: readList('action', action, new Set<string>(actionNames)) }),
    // Its prefix is of no interest: no two things have one id.
    ...(actor === undefined ? {} : { actorId: actor === 'system' ? null : actor.slice(actor.indexOf('-') + 1) }),
    ...(from === undefined ? {} : { from: readTime('from', from) }),
    ...(to === undefined ? {} : { to: readTime('to', to) }),
  };
}

function readList(field: string, value: string | string[], known: ReadonlySet<string>): string[] {
  const parts = [value].flat().flatMap((text) => text.split(','));
  const unknown = parts.find((part) => !known.has(part));
  if (unknown === undefined) return parts;
  const shown = JSON.stringify(unknown.slice(0, 60));
  throw new AppError('invalid_request', `${field} ${shown} is not one; there is ${[...known].join(', ')}`, {
    details: { field },
  });
}

function readTime(field: string, text: string): Date {
  const date = new Date(text);
  if (!Number.isNaN(date.getTime())) return date;
  throw new AppError('invalid_request', `${field} must be an RFC 3339 time`, { details: { field } });
}

function readPosition(cursor: string | undefined): AuditPosition | undefined {
  const [position, id] = splitCursor(cursor);
  if (position === undefined) return undefined;
  return { position: Number(position), id: parseId('auditEntry', must(id, 'the pattern has two parts'), 'cursor') };
}
