import { newId } from '@aviary/core';
import { startTestPostgres } from '@aviary/testing';
import { sql } from 'kysely';
import { expect, test } from 'vitest';
import { migrate } from './migrate.ts';
import { openDatabase } from './open-database.ts';

test('a statement that is asked again and again is kept by its connection, and answers as it did at first', async () => {
  await using server = await startTestPostgres();
  await using database = await openDatabase({ url: await server.createDatabase(), poolSize: 1 });
  await migrate(database);
  const { db } = database;
  // PostgreSQL makes one plan for all values from the sixth time on.
  const times = Array.from({ length: 12 });
  for (const _ of times) {
    const added = await db
      .insertInto('users')
      .values({ id: newId('user'), email: 'a@example.com', email_key: 'a@example.com', name: 'A' })
      // By a partial index, whose condition is given as a value.
      .onConflict((conflict) => conflict.column('email_key').where('status', '<>', 'deleted').doNothing())
      .returning('email')
      .execute();
    expect(added.length).toBeLessThanOrEqual(1);
    expect(
      await db.selectFrom('users').select(['email', 'created_at']).where('email_key', '=', 'a@example.com').execute(),
    ).toEqual([{ email: 'a@example.com', created_at: expect.any(Date) }]);
  }
  const { rows } = await sql<{ statement: string }>`SELECT statement FROM pg_prepared_statements`.execute(db);
  expect(rows.map(({ statement }) => statement.slice(0, 22))).toContain('select "email", "creat');
});
