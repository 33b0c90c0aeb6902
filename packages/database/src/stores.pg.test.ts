import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { newId, sandboxStatuses } from '@aviary/core';
import { describeStores } from '@aviary/testing';
import { sql } from 'kysely';
import { expect, test } from 'vitest';
import { dumpSchema } from './dump-schema.ts';
import { migrate } from './migrate.ts';
import { openDatabase } from './open-database.ts';

describeStores('the schema', (open) => {
  test('is what schema.sql says', async () => {
    const committed = await readFile(path.join(import.meta.dirname, '../schema.sql'), 'utf8');
    expect(await dumpSchema(await open())).toBe(committed);
  });

  test('migrating again changes nothing, and several at once agree', async () => {
    const database = await open();
    expect(await Promise.all([migrate(database), migrate(database), migrate(database)])).toEqual([[], [], []]);
  });

  test('a migration that was applied may not change', async () => {
    const database = await open();
    const setChecksum = async (checksum: string) => {
      const { rows } = await sql<{ checksum: string }>`
        UPDATE schema_migrations AS now SET checksum = ${checksum} FROM schema_migrations AS old
        WHERE now.name = '0001_create_teams.sql' AND old.owner = now.owner AND old.name = now.name
        RETURNING old.checksum`.execute(database.db);
      return rows[0]?.checksum ?? '';
    };
    const own = await setChecksum('other');
    await expect(migrate(database)).rejects.toMatchObject({ code: 'integrity' });
    // The tests that follow use the embedded store again.
    await setChecksum(own);
  });

  test('allows exactly the statuses of the transition table', async () => {
    const { db } = await open();
    const { rows } = await sql<{ definition: string }>`
      SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conname = 'sandboxes_status_check'`.execute(
      db,
    );
    const allowed = [...(rows[0]?.definition ?? '').matchAll(/'(\w+)'/g)].map((match) => match[1]);
    expect(allowed).toEqual([...sandboxStatuses]);
  });

  test('transactions that run at once do not see each other, and a failed one leaves nothing', async () => {
    const { db } = await open();
    const insert = (slug: string, fails: boolean) =>
      db.transaction().execute(async (transaction) => {
        await transaction
          .insertInto('teams')
          .values({ id: newId('team'), name: slug, slug })
          .execute();
        await new Promise((resolve) => setImmediate(resolve));
        if (fails) throw new Error('undo');
      });
    await Promise.allSettled(Array.from({ length: 10 }, (_, index) => insert(`team-${index}`, index % 2 === 1)));
    const rows = await db.selectFrom('teams').select('slug').where('slug', 'like', 'team-%').orderBy('slug').execute();
    expect(rows.map((row) => row.slug)).toEqual(['team-0', 'team-2', 'team-4', 'team-6', 'team-8']);
  });

  test('a named lock is held by one at a time, and free again after a failure', async () => {
    const database = await open();
    const gate = Promise.withResolvers<string>();
    const first = database.tryWithLock('x', () => gate.promise);
    await sql`SELECT 1`.execute(database.db);
    expect(await database.tryWithLock('x', async () => 'second')).toBeUndefined();
    gate.resolve('first');
    expect(await first).toBe('first');
    await expect(database.tryWithLock('x', () => Promise.reject(new Error('broke')))).rejects.toThrow('broke');
    expect(await database.tryWithLock('x', async () => 'third')).toBe('third');
  });

  test('counters come as numbers', async () => {
    const { db } = await open();
    const { rows } = await sql<{ big: unknown }>`SELECT 5::bigint AS big`.execute(db);
    expect(rows[0]?.big).toBe(5);
  });
});

test('a PGlite directory belongs to one process, and keeps its rows', async () => {
  const parent = await mkdtemp(path.join(tmpdir(), 'aviary-db-'));
  try {
    const directory = path.join(parent, 'pglite');
    {
      await using database = await openDatabase({ directory });
      await migrate(database);
      await expect(openDatabase({ directory })).rejects.toMatchObject({ code: 'conflict' });
    }
    await using again = await openDatabase({ directory });
    expect(await migrate(again)).toEqual([]);
  } finally {
    await rm(parent, { recursive: true, force: true });
  }
});
