import { AppError, platformTeamId, type TeamId, type TemplateId } from '@aviary/core';
import type { TemplateTable } from '@aviary/database';
import type { Insertable, Selectable } from 'kysely';
import type { Db } from '../context.ts';

export type TemplateRow = Selectable<TemplateTable>;

const templateColumns = [
  'team_id',
  'id',
  'name',
  'kind',
  'status',
  'status_reason',
  'vcpus',
  'memory_mib',
  'disk_mib',
  'size_bytes',
  'host_id',
  'created_at',
] as const satisfies (keyof TemplateTable)[];

/** Templates that a team sees: its own and the platform's, by name. `after` is the last name of the page before. */
export function listTemplates(
  db: Db,
  {
    teamId,
    kind,
    limit,
    after,
  }: { teamId: TeamId; kind?: TemplateRow['kind']; limit: number; after?: { name: string; id: TemplateId } },
): Promise<TemplateRow[]> {
  let query = db
    .selectFrom('templates')
    .select(templateColumns)
    .where('team_id', 'in', [teamId, platformTeamId])
    .where('status', '<>', 'deleting')
    // A replacement that is being made has no name of its own yet.
    .where('name', 'not like', '%/%');
  if (kind) query = query.where('kind', '=', kind);
  if (after)
    query = query.where(({ eb, refTuple, tuple }) => eb(refTuple('name', 'id'), '>', tuple(after.name, after.id)));
  return query.orderBy('name').orderBy('id').limit(limit).execute();
}

/** A team's own templates in any state, also those without a name of their own. */
export function listOwnTemplates(db: Db, { teamId, limit }: { teamId: TeamId; limit: number }): Promise<TemplateRow[]> {
  return db
    .selectFrom('templates')
    .select(templateColumns)
    .where('team_id', '=', teamId)
    .orderBy('id')
    .limit(limit)
    .execute();
}

export function findOwnTemplate(db: Db, teamId: TeamId, name: string): Promise<TemplateRow | undefined> {
  return db
    .selectFrom('templates')
    .select(templateColumns)
    .where('team_id', '=', teamId)
    .where('name', '=', name)
    .executeTakeFirst();
}

/** A template by its own name: the team that owns it and its id. */
export interface TemplateKey {
  teamId: TeamId;
  id: TemplateId;
}

export function findTemplate(db: Db, { teamId, id }: TemplateKey): Promise<TemplateRow | undefined> {
  return db
    .selectFrom('templates')
    .select(templateColumns)
    .where('team_id', '=', teamId)
    .where('id', '=', id)
    .executeTakeFirst();
}

export function insertTemplate(db: Db, template: Insertable<TemplateTable>): Promise<TemplateRow> {
  return db.insertInto('templates').values(template).returning(templateColumns).executeTakeFirstOrThrow();
}

/** The template is whole and ready, under its name. */
export function completeTemplate(
  db: Db,
  { teamId, id }: TemplateKey,
  facts: Pick<TemplateRow, 'name' | 'size_bytes' | 'vcpus' | 'memory_mib' | 'disk_mib'>,
): Promise<TemplateRow> {
  return db
    .updateTable('templates')
    .set({ ...facts, status: 'ready' })
    .where('team_id', '=', teamId)
    .where('id', '=', id)
    .returning(templateColumns)
    .executeTakeFirstOrThrow();
}

export async function failTemplate(db: Db, { teamId, id }: TemplateKey, reason: string): Promise<void> {
  await db
    .updateTable('templates')
    .set({ status: 'error', status_reason: reason })
    .where('team_id', '=', teamId)
    .where('id', '=', id)
    .execute();
}

/** Marks a template that is to be deleted. Undefined while it is being made. */
export function markDeleting(db: Db, { teamId, id }: TemplateKey): Promise<TemplateRow | undefined> {
  return db
    .updateTable('templates')
    .set({ status: 'deleting' })
    .where('team_id', '=', teamId)
    .where('id', '=', id)
    .where('status', 'in', ['ready', 'error'])
    .returning(templateColumns)
    .executeTakeFirst();
}

/** Marks a template that another one replaces, and frees its name: no user can give one with a slash. */
export async function retireTemplate(db: Db, { teamId, id }: TemplateKey): Promise<void> {
  await db
    .updateTable('templates')
    .set({ status: 'deleting', name: `retired/${id}` })
    .where('team_id', '=', teamId)
    .where('id', '=', id)
    .execute();
}

export async function deleteTemplate(db: Db, { teamId, id }: TemplateKey): Promise<void> {
  await db.deleteFrom('templates').where('team_id', '=', teamId).where('id', '=', id).execute();
}

/** The template a team means by `name`: its own before the platform's. Throws `not_found` with the names there are. */
export async function resolveTemplate(db: Db, teamId: TeamId, name: string): Promise<TemplateRow> {
  const named = await db
    .selectFrom('templates')
    .select(templateColumns)
    .where('team_id', 'in', [teamId, platformTeamId])
    .where('name', '=', name)
    .limit(2)
    .execute();
  const template = named.find(({ team_id }) => team_id === teamId) ?? named[0];
  if (template?.status === 'ready') return template;
  if (template && template.status !== 'deleting') {
    throw new AppError('invalid_state', `template ${name} is ${template.status}, not ready`, {
      details: { field: 'template', status: template.status },
    });
  }
  const available = await listTemplates(db, { teamId, limit: 20 });
  const names = available.filter((row) => row.status === 'ready').map((row) => row.name);
  throw new AppError('not_found', `there is no template ${name}; there is ${names.join(', ')}`, {
    details: { field: 'template', available: names },
  });
}
