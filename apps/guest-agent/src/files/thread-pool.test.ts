import { userInfo } from 'node:os';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { GuestUser } from '../users/user-database.ts';
import { FileThreadPool } from './thread-pool.ts';

const { uid, gid, username } = userInfo();
const user: GuestUser = { name: username, uid, gid, groups: [gid], home: '/', shell: '/bin/sh' };
const never = new AbortController().signal;
/** Takes far longer than any test may. */
const endless = { path: '/', depth: 16, limit: 1_000_000_000 };

let pool: FileThreadPool;
beforeEach(() => {
  pool = new FileThreadPool({ maxThreads: 1, idleMs: 1 });
});
afterEach(() => pool[Symbol.asyncDispose]());

const stat = (signal = never) => pool.run('readEntry', { user, input: { path: '/' }, signal });

it('ends an operation with its caller, so that the next one has its thread', async () => {
  const left = new AbortController();
  const listing = pool.run('listDirectory', { user, input: endless, signal: left.signal });
  const waiting = stat();
  left.abort();
  await expect(listing).rejects.toMatchObject({ code: 'cancelled' });
  expect((await waiting).type).toBe('directory');
});

it('lets a caller leave that waits for a thread, and gives its turn to the next', async () => {
  const first = new AbortController();
  const second = new AbortController();
  const listing = pool.run('listDirectory', { user, input: endless, signal: first.signal });
  const waiting = stat(second.signal);
  const last = stat();
  second.abort();
  await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
  first.abort();
  await expect(listing).rejects.toMatchObject({ code: 'cancelled' });
  expect((await last).path).toBe('/');
  await expect(stat(second.signal)).rejects.toMatchObject({ code: 'cancelled' });
});

it('ends a page of a listing with its bytes as well', async () => {
  const input = { path: '/', depth: 1, limit: 1_000, maxBytes: 1 };
  const { entries, next } = await pool.run('listDirectory', { user, input, signal: never });
  expect([entries.length, next]).toEqual([1, [entries[0]?.name]]);
});

it('frees what an operation gives that came too late', async () => {
  const left = new AbortController();
  const released = Promise.withResolvers<number>();
  const opening = pool.run('openSource', {
    user,
    input: { path: import.meta.filename },
    signal: left.signal,
    release: ({ fd }) => released.resolve(fd),
  });
  // The thread has its job by then, and no operation of this kind looks whether it is still wanted.
  await Promise.resolve().then(() => left.abort());
  await expect(opening).rejects.toMatchObject({ code: 'cancelled' });
  expect(await released.promise).toBeGreaterThan(2);
});

it('serves whoever comes while an idle thread ends, and after that', async () => {
  await stat();
  for (let round = 0; round < 5; round++) {
    // The thread is on its way out by then, or gone.
    await expect.poll(() => pool.idle, { interval: 1 }).toBe(0);
    expect((await stat()).type).toBe('directory');
  }
});

it('names the error of the operating system by our code', async () => {
  const run = pool.run('readEntry', { user, input: { path: '/nowhere/at/all' }, signal: never });
  await expect(run).rejects.toMatchObject({ code: 'not_found', message: expect.stringContaining('/nowhere/at/all') });
});
