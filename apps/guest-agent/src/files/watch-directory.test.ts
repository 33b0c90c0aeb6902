import { mkdtempSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { Inotify } from '@aviary/linux';
import { expect, it } from 'vitest';
import { type GuestUser, UserDatabase } from '../users/user-database.ts';
import { FileAccess } from './file-access.ts';
import { watchDirectory } from './watch-directory.ts';

const { uid, gid, username } = userInfo();
const user: GuestUser = { name: username, uid, gid, groups: [gid], home: '/', shell: '/bin/sh' };
const never = new AbortController().signal;

it('leaves events in the kernel, which bounds them, while it looks at earlier ones', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'aviary-watch-'));
  const blocker = new AbortController();
  const queue = new Inotify();
  let batches = 0;
  const inotify = {
    add: (path: string, mask: number) => queue.add(path, mask),
    remove: (number: number) => queue.remove(number),
    close: () => queue.close(),
    read: () => {
      const events = queue.read();
      if (events.length > 0) batches++;
      return events;
    },
  };
  await using files = new FileAccess({ maxThreads: 1 });
  const options = { path: directory, user, isRecursive: false, includesEntry: true, allowsNetworkMounts: false };
  using watcher = await watchDirectory(options, { files, users: new UserDatabase(), inotify });
  // Hears of a change in the same turn as the watcher does.
  const ear = watch(directory);
  const write = async (name: string) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    ear.on('change', (_event, changed) => {
      if (changed === name) resolve();
    });
    writeFileSync(join(directory, name), 'x');
    await promise;
    await new Promise(setImmediate);
  };
  try {
    const input = { path: '/', depth: 16, limit: 1_000_000_000 };
    const listing = files.threads.run('listDirectory', { user, input, signal: blocker.signal });
    for (const name of ['a', 'b', 'c']) await write(name);
    expect(batches).toBe(1);
    blocker.abort();
    await expect(listing).rejects.toMatchObject({ code: 'cancelled' });
    const seen = new Set<string | undefined>();
    while (!seen.has('c')) for (const { name } of await watcher.next(never, 1_000)) seen.add(name);
    expect([...seen]).toEqual(['a', 'b', 'c']);
  } finally {
    ear.close();
    rmSync(directory, { recursive: true });
  }
});
