import { type AuditAction, auditActions, newId, type TeamId } from '@aviary/core';
import type { Database } from '@aviary/database';
import { describeStores } from '@aviary/testing';
import fc from 'fast-check';
import { sql } from 'kysely';
import { expect, test } from 'vitest';
import { insertTestTeam, insertTestUser } from '../test-people-store.ts';
import { recordAudit } from './audit-store.ts';
import { readAuditPage } from './read-audit.ts';

const actor = { type: 'system', id: null, name: 'test' } as const;
const record = (db: Database['db'], teamId: TeamId, action: AuditAction = 'sandbox.create') =>
  recordAudit(db, { teamId, actor, action, resourceId: newId('sandbox') });

/** All pages, with something done between each two. */
async function readAll(
  { db }: Database,
  {
    teamId,
    limit,
    between = async () => undefined,
  }: { teamId: TeamId; limit: number; between?: () => Promise<unknown> },
): Promise<string[]> {
  const ids: string[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await readAuditPage(db, { teamId, scope: null }, { limit, ...(cursor ? { cursor } : {}) });
    ids.push(...page.items.map(({ id }) => id));
    cursor = page.next_cursor;
    await between();
  }
  return ids;
}

describeStores('the audit log', (open, kind) => {
  test('can be added to, and neither changed, taken from nor emptied', async () => {
    const { db } = await open();
    await record(db, await insertTestTeam(db));
    const refused = /append-only/;
    await expect(db.updateTable('audit_logs').set({ metadata: '{}' }).execute()).rejects.toThrow(refused);
    await expect(db.updateTable('audit_logs').set({ position: 0 }).execute()).rejects.toThrow(refused);
    await expect(db.deleteFrom('audit_logs').execute()).rejects.toThrow(refused);
    await expect(sql`TRUNCATE audit_logs`.execute(db)).rejects.toThrow(refused);
  });

  test('lets nobody be taken out but who has deleted their account', async () => {
    const { db } = await open();
    const refused = /append-only/;
    const teamId = await insertTestTeam(db);
    const { userId, email } = await insertTestUser(db, {});
    const person = { type: 'user', id: userId, name: email } as const;
    const guest = { email: 'guest@example.com' };
    await recordAudit(db, { teamId, actor: person, action: 'invitation.create', resourceId: teamId, metadata: guest });
    await recordAudit(db, {
      teamId,
      actor,
      action: 'member.add',
      resourceId: userId,
      metadata: { email, role: 'admin' },
    });
    const change = (what: Record<string, unknown>, action: AuditAction) =>
      db.updateTable('audit_logs').set(what).where('action', '=', action).execute();
    const gone = { actor_name: 'deleted user', actor_id: null };
    const unnamed = { resource_id: null, metadata: sql`metadata - 'email' - 'name'` };
    await expect(change(gone, 'invitation.create')).rejects.toThrow(refused);
    await expect(change(unnamed, 'member.add')).rejects.toThrow(refused);
    await db.updateTable('users').set({ status: 'deleted' }).where('id', '=', userId).execute();
    for (const more of [{ action: 'user.update' }, { metadata: '{}' }, { resource_id: null }, { position: 0 }])
      await expect(change({ ...gone, ...more }, 'invitation.create')).rejects.toThrow(refused);
    for (const more of [gone, { status: 'info' }, { metadata: '{}' }, { resource_id: 'another' }])
      await expect(change({ ...unnamed, ...more }, 'member.add')).rejects.toThrow(refused);
    await change(gone, 'invitation.create');
    await change(unnamed, 'member.add');
    const { items } = await readAuditPage(db, { teamId, scope: null }, {});
    expect(items.map(({ metadata }) => metadata)).toEqual([{ role: 'admin' }, guest]);
  });

  test('gives every entry once, however many share a transaction or come while it is read', async () => {
    const database = await open();
    const actions = Object.keys(auditActions) as AuditAction[];
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 5 }),
        async (transactions, limit) => {
          const teamId = await insertTestTeam(database.db);
          let count = 0;
          for (const size of transactions) {
            await database.transaction(async ({ db }) => {
              for (let index = 0; index < size; index++) await record(db, teamId, actions[count++ % actions.length]);
            });
          }
          const ids = await readAll(database, { teamId, limit, between: () => record(database.db, teamId) });
          expect(ids).toHaveLength(count);
          expect(new Set(ids).size).toBe(count);
        },
      ),
      { numRuns: 15 },
    );
  });

  // PGlite has one connection: nothing is under way there while somebody reads.
  if (kind === 'pglite') return;

  test('shows no entry before those that can still come in front of it', async () => {
    const database = await open();
    const teamId = await insertTestTeam(database.db);
    const begun = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const slow = database.transaction(async ({ db }) => {
      await record(db, teamId);
      begun.resolve();
      await gate.promise;
    });
    await begun.promise;
    await record(database.db, teamId);
    const before = await readAll(database, { teamId, limit: 10 });
    gate.resolve();
    await slow;
    const after = await readAll(database, { teamId, limit: 10 });
    // What was seen stays at the end of the list, in its order.
    expect(after.slice(after.length - before.length)).toEqual(before);
    expect(before).toEqual([]);
    expect(after).toHaveLength(2);
  });
});
