import { parseId, type UserId } from '@aviary/core';
import type { Database } from '@aviary/database';
import { waitFor } from '@aviary/service-kit';
import { describeStores } from '@aviary/testing';
import { sql } from 'kysely';
import { expect, test } from 'vitest';
import { accountOf, password } from '../accounts/test-account.ts';
import type { Reply } from '../test-platform.ts';
import { insertIdentity } from './identity-store.ts';
import { TestBrowser } from './test-browser.ts';
import { startOidcPlatform } from './test-oidc-platform.ts';

describeStores('somebody of a provider', (open, kind) => {
  test('who signs in several times at once gets one account', async () => {
    await using at = await startOidcPlatform({ database: await open() });
    const { login } = at.newPerson();
    const browsers = [1, 2, 3, 4].map(() => new TestBrowser());
    const backs = await Promise.all(browsers.map((browser) => at.goThere(browser, login)));
    const pages = await Promise.all(browsers.map((browser, nth) => browser.open(backs[nth]?.href ?? '')));
    const replies = await Promise.all(
      browsers.map((browser, nth) => at.exchangeIn(browser, new URL(pages[nth]?.location ?? ''))),
    );
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(new Set(replies.map(({ body }) => body.user.id)).size).toBe(1);
  });

  test('is let in once by what came back, and by its code, however often they are shown at once', async () => {
    await using at = await startOidcPlatform({ database: await open() });
    const browser = new TestBrowser();
    const back = await at.goThere(browser, at.newPerson().login);
    const pages = await Promise.all([1, 2, 3].map(() => browser.open(back.href)));
    expect(pages.map(({ status }) => status).sort()).toEqual([303, 400, 400]);
    const url = new URL(pages.find(({ status }) => status === 303)?.location ?? '');
    const replies = await Promise.all([1, 2, 3].map(() => at.exchangeIn(browser, url)));
    expect(replies.map(({ status }) => status).sort()).toEqual([200, 401, 401]);
  });

  test('keeps one way in, whatever is unlinked at once', async () => {
    await using at = await startOidcPlatform({ database: await open() });
    const user = accountOf(at.platform, await at.signIn(at.newPerson().login));
    const { db } = at.platform.database;
    const userId = parseId('user', user.userId);
    const issuer = at.servers[1]?.url ?? '';
    await insertIdentity(db, { issuer, subject: 'second', userId, email: null, now: new Date() });
    const { items } = (await user.call('GET', '/v1/me/identities')).body;
    const unlinkAll = () =>
      Promise.all<Reply>(items.map(({ id }: { id: string }) => user.call('DELETE', `/v1/me/identities/${id}`)));
    const replies =
      kind === 'postgres' ? await whileLocked(at.platform.database, userId, unlinkAll) : await unlinkAll();
    expect(replies.map(({ status }) => status).sort()).toEqual([204, 409]);
    expect((await user.call('POST', '/v1/me/password', { new_password: password })).status).toBe(204);
  });
});

/** Holds the identities of a user until two wait to change them or what keeps them apart, so that both go on at the same moment. */
async function whileLocked<T>(database: Database, userId: UserId, act: () => Promise<T>): Promise<T> {
  const acting = await database.transaction(async ({ db }) => {
    await db.selectFrom('identities').select('id').where('user_id', '=', userId).forUpdate().execute();
    const begun = act();
    await waitFor({ what: 'two that wait for a lock', timeoutMs: 10_000 }, async () => {
      const waiting = sql<{
        count: number;
      }>`SELECT count(*)::int AS count FROM pg_stat_activity WHERE wait_event_type = 'Lock'`;
      return ((await waiting.execute(database.db)).rows[0]?.count ?? 0) >= 2;
    });
    return { begun };
  });
  return acting.begun;
}
