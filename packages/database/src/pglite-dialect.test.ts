import { sql } from 'kysely';
import { expect, test } from 'vitest';
import { kyselyOn, openPglite } from './pglite-dialect.ts';

test('an embedded store that has no room is away for the moment, as a server is; what a statement does wrong is told as it is', async () => {
  const db = kyselyOn(await openPglite({}));
  const raise = (code: string) =>
    sql.raw(`DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '${code}'; END $$`).execute(db);
  try {
    await expect(raise('53100')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('full'),
    });
    await expect(raise('53200')).rejects.toMatchObject({ code: 'unavailable', retryAfterSec: 1 });
    await expect(raise('23505')).rejects.toMatchObject({ code: '23505', message: 'as told' });
  } finally {
    await db.destroy();
  }
}, 60_000);
