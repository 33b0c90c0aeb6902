import {
  type ApiKeyId,
  AppError,
  formatId,
  type HostId,
  must,
  nextSandboxStatus,
  type SandboxActionName,
  type SandboxId,
  type SandboxStatus,
  type SandboxTransition,
  sandboxActions,
  sandboxActionsIn,
  sandboxTransitions,
  type TeamId,
  whyNotSandbox,
} from '@aviary/core';
import type { SandboxTable } from '@aviary/database';
import { CompiledQuery, type Insertable, type Selectable, sql, type Updateable } from 'kysely';
import { isGoodKeySql } from '../api-keys/api-key-store.ts';
import type { Db } from '../context.ts';
import { eventRow, recordEvent } from '../events/outbox-store.ts';

export type SandboxRow = Selectable<SandboxTable>;

/** Columns that a status write may set besides the status. */
export type SandboxChanges = Omit<Updateable<SandboxTable>, 'id' | 'team_id' | 'status' | 'revision'>;

/** What a change of status may tell of the sandbox's run. */
export type RunFacts = Pick<
  SandboxRow,
  'status_reason' | 'started_at' | 'last_active_at' | 'start_path' | 'generation_id' | 'run' | 'event_sequence'
>;

/** How far the host was heard about a sandbox: up to which run, and which of its events. */
export interface HeardUpTo {
  run?: number | undefined;
  event_sequence?: number | undefined;
}

/** Every column, named: what {@link SandboxRow} holds. */
const sandboxColumns = [
  'id',
  'team_id',
  'host_id',
  'template_team_id',
  'template_id',
  'template_name',
  'status',
  'status_reason',
  'revision',
  'status_changed_at',
  'vcpus',
  'memory_mib',
  'disk_mib',
  'timeout_sec',
  'metadata',
  'start_path',
  'generation_id',
  'last_activity',
  'created_at',
  'started_at',
  'last_active_at',
  'updated_at',
  'run',
  'event_sequence',
] as const satisfies (keyof SandboxTable)[];

/** The team's sandbox. Another team's is undefined, as if it did not exist. */
function findSandbox(db: Db, teamId: TeamId, id: SandboxId): Promise<SandboxRow | undefined> {
  return db
    .selectFrom('sandboxes')
    .select(sandboxColumns)
    .where('id', '=', id)
    .where('team_id', '=', teamId)
    .executeTakeFirst();
}

/** Like {@link findSandbox}; throws `not_found`, in the same words whether it never was or is another team's. */
export async function getSandbox(db: Db, teamId: TeamId, id: SandboxId): Promise<SandboxRow> {
  const row = await findSandbox(db, teamId, id);
  if (!row) throw noSuchSandbox();
  return row;
}

/** What users see of a sandbox. */
const shownColumns = [
  'id',
  'status',
  'status_reason',
  'template_name',
  'vcpus',
  'memory_mib',
  'disk_mib',
  'timeout_sec',
  'metadata',
  'start_path',
  'host_id',
  'generation_id',
  'created_at',
  'started_at',
  'last_active_at',
  'last_activity',
  'updated_at',
] as const satisfies (typeof sandboxColumns)[number][];

export type ShownSandbox = Pick<SandboxRow, (typeof shownColumns)[number]>;

/** A sandbox that somebody asks for by an API key of a team. */
export interface KeyedQuestion {
  sandboxId: SandboxId;
  teamId: TeamId;
  keyId: ApiKeyId;
}

/** Made once, as it is asked more often than anything else. */
const sandboxesByKeysSql = `
  SELECT nth, ${shownColumns.map((name) => `sandboxes.${name}`).join(', ')}
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) WITH ORDINALITY AS asked (sandbox_id, team_id, key_id, nth)
  JOIN sandboxes ON sandboxes.id = asked.sandbox_id AND sandboxes.team_id = asked.team_id
  WHERE ${isGoodKeySql({ id: 'asked.key_id', teamId: 'asked.team_id', now: '$4' })}`;

/** Each of the sandboxes that is the team's, if the key is good at this moment: who asks and what is asked for, in one query for all. */
export async function findSandboxesByKeys(
  db: Db,
  questions: readonly KeyedQuestion[],
  now: Date,
): Promise<(ShownSandbox | undefined)[]> {
  const columns = [
    questions.map(({ sandboxId }) => sandboxId),
    questions.map(({ teamId }) => teamId),
    questions.map(({ keyId }) => keyId),
  ];
  const query = CompiledQuery.raw(sandboxesByKeysSql, [...columns, now.toISOString()]);
  const { rows } = await db.executeQuery(query as CompiledQuery<ShownSandbox & { nth: number }>);
  const found: (ShownSandbox | undefined)[] = questions.map(() => undefined);
  for (const row of rows) found[row.nth - 1] = row;
  return found;
}

export function noSuchSandbox(): AppError {
  return new AppError('not_found', 'there is no such sandbox; GET /v1/sandboxes lists yours');
}

/** A sandbox whatever its team: for operations and the host side, which come from the database themselves. */
export function findSandboxById(db: Db, id: SandboxId): Promise<SandboxRow | undefined> {
  return db.selectFrom('sandboxes').select(sandboxColumns).where('id', '=', id).executeTakeFirst();
}

/** A team's sandbox and where its host is, in one query. */
export function findSandboxOnHost(db: Db, teamId: TeamId, id: SandboxId) {
  return (
    db
      .selectFrom('sandboxes')
      .innerJoin('hosts', 'hosts.id', 'sandboxes.host_id')
      .select(['sandboxes.id', 'sandboxes.status', 'status_reason', 'host_id', 'address', 'epoch', 'last_activity'])
      // A sandbox that is used all the time is not written all the time.
      .select(sql<boolean>`coalesce(last_active_at > now() - interval '1 second', false)`.as('isNoted'))
      .where('sandboxes.id', '=', id)
      .where('sandboxes.team_id', '=', teamId)
      .executeTakeFirst()
  );
}

/** Writes new sandboxes, with the event that they begin to be; in the order of `sandboxes`. */
export async function insertSandboxes(
  db: Db,
  sandboxes: readonly (Insertable<SandboxTable> & { id: SandboxId; team_id: TeamId })[],
  payload: object,
): Promise<SandboxRow[]> {
  const events = sandboxes.map(({ id, team_id }) =>
    eventRow({ teamId: team_id, sandboxId: id, type: 'sandbox.created', payload }),
  );
  // In one statement: the host's row is locked meanwhile, and others wait for it.
  const rows = await db
    .with('told', (insert) => insert.insertInto('outbox_events').values(events))
    .insertInto('sandboxes')
    .values(sandboxes)
    .returning(sandboxColumns)
    .execute();
  const byId = new Map(rows.map((row) => [row.id, row]));
  return sandboxes.map(({ id }) => must(byId.get(id), 'what was inserted is returned'));
}

/** Notes that a user gave a sign of life. */
export async function touchSandbox(db: Db, id: SandboxId, activity: string): Promise<void> {
  await db
    .updateTable('sandboxes')
    .set({ last_active_at: sql<Date>`now()`, last_activity: activity })
    .where('id', '=', id)
    .execute();
}

/** Sets the idle time before auto-pause. */
export function updateTimeout(db: Db, id: SandboxId, timeoutSec: number): Promise<SandboxRow> {
  return db
    .updateTable('sandboxes')
    .set({ timeout_sec: timeoutSec, updated_at: sql<Date>`now()` })
    .where('id', '=', id)
    .returning(sandboxColumns)
    .executeTakeFirstOrThrow();
}

/** A change of status, and what is known with it. */
export interface StatusWrite {
  transition: SandboxTransition;
  changes?: SandboxChanges;
  /** A run begins with it, now by the clock that the row's other times are by. */
  beginsRun?: boolean;
}

/**
 * The one way to write a status: compare-and-set on status and revision, with its event, in the caller's transaction.
 * Resolves with the new row, or undefined when the transition is not legal from the present state or another write
 * came first. The reason is cleared unless `changes` gives one.
 */
export async function applyTransition(
  db: Db,
  seen: Pick<SandboxRow, 'id' | 'revision'>,
  { transition, changes = {}, beginsRun = false }: StatusWrite,
): Promise<SandboxRow | undefined> {
  const { from, to } = sandboxTransitions[transition];
  const { run, event_sequence, ...others } = changes;
  const row = await db
    .updateTable('sandboxes')
    .set({
      status_reason: null,
      ...others,
      ...heardUpTo({ run, event_sequence }),
      ...(beginsRun ? { started_at: sql<Date>`now()`, last_active_at: sql<Date>`now()` } : {}),
      status: to,
      revision: sql<number>`revision + 1`,
      status_changed_at: sql<Date>`now()`,
      updated_at: sql<Date>`now()`,
    })
    .where('id', '=', seen.id)
    .where('status', 'in', [...from])
    .where('revision', '=', seen.revision)
    .returning(sandboxColumns)
    .executeTakeFirst();
  if (row) {
    await recordEvent(db, {
      teamId: row.team_id,
      sandboxId: row.id,
      type: `sandbox.${transition}`,
      payload: { status: row.status, reason: row.status_reason, revision: row.revision },
    });
  }
  return row;
}

/** How far the host was heard about a sandbox. It never goes back, in whatever order answers and events come. */
function heardUpTo({ run, event_sequence }: HeardUpTo) {
  return {
    ...(run === undefined ? {} : { run: sql<number>`GREATEST(run, ${run})` }),
    ...(event_sequence === undefined
      ? {}
      : { event_sequence: sql<number>`GREATEST(event_sequence, ${event_sequence})` }),
  };
}

/** Notes that the host was heard about a sandbox, without a change of its status. */
export async function noteHeard(db: Db, id: SandboxId, heard: HeardUpTo): Promise<void> {
  await db.updateTable('sandboxes').set(heardUpTo(heard)).where('id', '=', id).execute();
}

/**
 * Applies `transition` to the sandbox as it is now, trying again while other writers get in between. Undefined when the
 * present status does not allow it.
 */
export async function applyToLatest(db: Db, id: SandboxId, write: StatusWrite): Promise<SandboxRow | undefined> {
  for (;;) {
    const row = await findSandboxById(db, id);
    if (!row || nextSandboxStatus(row.status, write.transition) === undefined) return undefined;
    const written = await applyTransition(db, row, write);
    if (written) return written;
  }
}

/** The answer to a command that came too late or in the wrong state: says what the state is, what to do next, and what it allows. */
export function stateConflict(
  { id, status, status_reason }: Pick<SandboxRow, 'id' | 'status' | 'status_reason'>,
  action: SandboxActionName,
): AppError {
  const why = whyNotSandbox(action, status) ?? `it is ${status}, and another command came first; try again`;
  return new AppError('invalid_state', `cannot ${sandboxActions[action].verb} the sandbox: ${why}`, {
    details: { sandbox_id: formatId('sandbox', id), status, status_reason, allowed: sandboxActionsIn(status) },
  });
}

/** Newest first. `after` is the last id of the page before. */
export function listSandboxes(
  db: Db,
  { teamId, statuses, limit, after }: { teamId: TeamId; statuses?: SandboxStatus[]; limit: number; after?: SandboxId },
): Promise<SandboxRow[]> {
  let query = db.selectFrom('sandboxes').select(sandboxColumns).where('team_id', '=', teamId);
  query = statuses ? query.where('status', 'in', statuses) : query.where('status', '<>', 'stopped');
  if (after !== undefined) query = query.where('id', '<', after);
  return query.orderBy('id', 'desc').limit(limit).execute();
}

export interface SandboxOfAnyTeam extends SandboxRow {
  team_name: string | null;
}

/** Sandboxes of all teams that are not stopped, newest first, with their team's name. */
export function listSandboxesOfAll(
  db: Db,
  { limit, after }: { limit: number; after?: SandboxId },
): Promise<SandboxOfAnyTeam[]> {
  let query = db
    .selectFrom('sandboxes')
    .select(sandboxColumns)
    .select((from) =>
      from.selectFrom('teams').select('name').whereRef('teams.id', '=', 'sandboxes.team_id').as('team_name'),
    )
    .where('status', '<>', 'stopped');
  if (after !== undefined) query = query.where('id', '<', after);
  return query.orderBy('id', 'desc').limit(limit).execute();
}

/** A host's sandboxes that are not stopped; bounded by what a host can hold. */
export function listLiveSandboxes(db: Db, hostId: HostId): Promise<SandboxRow[]> {
  return db
    .selectFrom('sandboxes')
    .select(sandboxColumns)
    .where('host_id', '=', hostId)
    .where('status', '<>', sql.lit('stopped'))
    .execute();
}
