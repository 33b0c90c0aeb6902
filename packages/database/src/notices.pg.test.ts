import { newId } from '@aviary/core';
import { describeStores } from '@aviary/testing';
import { sql } from 'kysely';
import { expect, test, vi } from 'vitest';
import type { Database } from './open-database.ts';

const channel = 'aviary_test';

/** Listens until `signal` aborts; resolves once it hears. */
async function listen(database: Database, signal: AbortSignal) {
  const heard: string[] = [];
  const gap = Promise.withResolvers<void>();
  let gaps = 0;
  const onGap = () => {
    gaps++;
    gap.resolve();
  };
  const done = database.listen(
    channel,
    { onNotice: (text) => heard.push(text), onGap, onError: () => undefined },
    signal,
  );
  await gap.promise;
  return { heard, done, gaps: () => gaps };
}

const notify = (db: Database['db'], text: string) => sql`SELECT pg_notify(${channel}, ${text})`.execute(db);

describeStores('what is told of a transaction', (open, kind) => {
  test('reaches listeners when it is kept, and never when it is not', async () => {
    const database = await open();
    const stop = new AbortController();
    const { heard, done } = await listen(database, stop.signal);
    await expect(
      database.transaction(async ({ db }) => {
        await notify(db, 'undone');
        throw new Error('undo');
      }),
    ).rejects.toThrow('undo');
    await database.transaction(async ({ db }) => {
      await notify(db, 'kept');
    });
    await expect.poll(() => heard).toEqual(['kept']);
    stop.abort();
    await done;
  });

  test('is told to this process in order after the commit, and not at all without one', async () => {
    const database = await open();
    const told: string[] = [];
    const write = (slug: string, fails: boolean) =>
      database.transaction(async ({ db, afterCommit }) => {
        afterCommit(() => told.push(`${slug} first`));
        await db
          .insertInto('teams')
          .values({ id: newId('team'), name: slug, slug })
          .execute();
        afterCommit(() => told.push(`${slug} second`));
        expect(told.filter((line) => line.startsWith(slug))).toEqual([]);
        if (fails) throw new Error('undo');
      });
    await Promise.allSettled([write('lost', true), write('kept', false)]);
    expect(told).toEqual(['kept first', 'kept second']);
  });

  // PGlite has no connection that could break.
  if (kind === 'pglite') return;

  test('a connection that breaks is replaced, and the listener told to look', async () => {
    const database = await open();
    const stop = new AbortController();
    const { heard, done, gaps } = await listen(database, stop.signal);
    await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE ${`LISTEN%${channel}%`}`.execute(
      database.db,
    );
    await vi.waitFor(() => expect(gaps()).toBe(2), { timeout: 10_000 });
    await notify(database.db, 'again');
    await expect.poll(() => heard).toEqual(['again']);
    stop.abort();
    await done;
  });
});
