import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { EventType } from '@aviary/proto/filesystem';
import { waitFor } from '@aviary/service-kit/deadline';
import { Code } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signFileRequest } from '../access/file-signature.ts';
import { accessToken, failure, isRoot, TestAgent } from '../test-agent.ts';

let guest: TestAgent;
beforeAll(async () => {
  guest = await TestAgent.start();
});
afterAll(() => guest[Symbol.asyncDispose]());

describe('files', () => {
  const headers = { 'x-access-token': accessToken };
  const urlOf = (path: string, more = '') => `${guest.base}/files?path=${encodeURIComponent(path)}${more}`;

  it('takes and gives bytes both ways, with ranges and gzip', async () => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 31) % 256));
    const path = join(guest.directory, 'deep/er/data.bin');
    const put = await fetch(urlOf(path), {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/octet-stream', 'content-encoding': 'gzip' },
      body: gzipSync(bytes),
    });
    expect(await put.json()).toEqual([{ name: 'data.bin', path, type: 'file' }]);
    const whole = await fetch(urlOf(path), { headers });
    expect(Buffer.from(await whole.arrayBuffer()).equals(bytes)).toBe(true);
    expect(whole.headers.get('content-length')).toBe('300000');
    const part = await fetch(urlOf(path), { headers: { ...headers, range: 'bytes=10-19' } });
    expect([part.status, part.headers.get('content-range')]).toEqual([206, 'bytes 10-19/300000']);
    expect(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(10, 20))).toBe(true);
    expect((await fetch(urlOf(path), { headers: { ...headers, range: 'bytes=300000-' } })).status).toBe(416);
    const zipped = await fetch(urlOf(path), { headers: { ...headers, 'accept-encoding': 'gzip' } });
    expect(zipped.headers.get('content-encoding')).toBe('gzip');
    expect(Buffer.from(await zipped.arrayBuffer()).equals(bytes)).toBe(true);
  });

  it.skipIf(!isRoot)('takes a form whose file names are paths, owned by the user with their parents', async () => {
    mkdirSync(join(guest.directory, 'shared'));
    chmodSync(join(guest.directory, 'shared'), 0o777);
    const form = new FormData();
    form.append('file', new Blob(['first']), join(guest.directory, 'shared/form/a.txt'));
    form.append('file', new Blob(['second']), join(guest.directory, 'shared/form/b.txt'));
    const response = await fetch(`${guest.base}/files?username=nobody`, { method: 'POST', headers, body: form });
    expect(((await response.json()) as { name: string }[]).map(({ name }) => name)).toEqual(['a.txt', 'b.txt']);
    expect(readFileSync(join(guest.directory, 'shared/form/b.txt'), 'utf8')).toBe('second');
    expect([
      statSync(join(guest.directory, 'shared/form')).uid,
      statSync(join(guest.directory, 'shared/form/a.txt')).uid,
    ]).toEqual([65_534, 65_534]);
  });

  it('answers 404, 400, 401 and an empty file', async () => {
    expect((await fetch(urlOf(join(guest.directory, 'absent')), { headers })).status).toBe(404);
    expect((await fetch(urlOf(guest.directory), { headers })).status).toBe(400);
    expect((await fetch(urlOf('/a\0b'), { headers })).status).toBe(400);
    expect((await fetch(urlOf(`/${'x'.repeat(300)}`), { headers })).status).toBe(400);
    expect((await fetch(urlOf('/etc/hosts', '&username=nobody-here'), { headers })).status).toBe(401);
    writeFileSync(join(guest.directory, 'empty'), '');
    expect((await fetch(urlOf(join(guest.directory, 'empty')), { headers })).headers.get('content-length')).toBe('0');
  });

  it('accepts a signed URL for its path and operation only, until it expires', async () => {
    const path = join(guest.directory, 'signed');
    writeFileSync(path, 'signed content');
    const signed = (expiration: string) => {
      const signature = signFileRequest({ path, operation: 'read', username: '', expiration }, accessToken);
      return `&signature=${encodeURIComponent(signature)}&signature_expiration=${expiration}`;
    };
    const later = signed(String(Math.floor(Date.now() / 1_000) + 60));
    expect(await (await fetch(urlOf(path, later))).text()).toBe('signed content');
    expect((await fetch(urlOf('/etc/passwd', later))).status).toBe(401);
    expect((await fetch(urlOf(path, later), { method: 'POST', body: 'x' })).status).toBe(401);
    expect((await fetch(urlOf(path, signed('1000')))).status).toBe(401);
  });

  it('joins files', async () => {
    writeFileSync(join(guest.directory, 'one'), '1');
    writeFileSync(join(guest.directory, 'two'), '2');
    const destination = join(guest.directory, 'joined');
    const response = await fetch(`${guest.base}/files/compose`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ source_paths: [join(guest.directory, 'one'), join(guest.directory, 'two')], destination }),
    });
    expect(response.status).toBe(200);
    expect(readFileSync(destination, 'utf8')).toBe('12');
  });

  it('makes, describes, moves, lists and removes', async () => {
    const { filesystem } = guest.clients();
    const path = join(guest.directory, 'tree');
    await filesystem.makeDir({ path: join(path, 'inner') });
    expect((await failure(filesystem.makeDir({ path }))).code).toBe(Code.AlreadyExists);
    writeFileSync(join(path, 'file'), 'abc', { mode: 0o640 });
    const { entry } = await filesystem.stat({ path: join(path, 'file') });
    expect(entry).toMatchObject({ name: 'file', size: 3n, permissions: '-rw-r-----', mode: 0o640 });
    const moved = await filesystem.move({ source: join(path, 'file'), destination: join(path, 'inner/file') });
    expect(moved.entry?.path).toBe(join(path, 'inner/file'));
    const names = (await filesystem.listDir({ path, depth: 2 })).entries.map((item) => item.name);
    expect(names).toEqual(['inner', 'file']);
    await filesystem.remove({ path });
    await filesystem.remove({ path });
    expect((await failure(filesystem.stat({ path }))).code).toBe(Code.NotFound);
  });

  it('watches: create, write, chmod, rename, remove, and new directories below', async () => {
    const { filesystem } = guest.clients();
    const path = join(guest.directory, 'watched');
    mkdirSync(path);
    const { watcherId } = await filesystem.createWatcher({ path, recursive: true });
    const seen: string[] = [];
    const until = (wanted: string) =>
      waitFor({ what: `the event ${wanted} after ${seen.join(' ')}`, timeoutMs: 5_000 }, async () => {
        const { events } = await filesystem.getWatcherEvents({ watcherId });
        seen.push(...events.map(({ name, type }) => `${EventType[type]} ${name}`));
        return seen.includes(wanted);
      });
    writeFileSync(join(path, 'a'), 'text');
    await until('WRITE a');
    chmodSync(join(path, 'a'), 0o600);
    await until('CHMOD a');
    renameSync(join(path, 'a'), join(path, 'b'));
    await until('CREATE b');
    rmSync(join(path, 'b'));
    await until('REMOVE b');
    mkdirSync(join(path, 'sub'));
    await until('CREATE sub');
    writeFileSync(join(path, 'sub/deep'), '');
    await until('CREATE sub/deep');
    expect(seen).toEqual(expect.arrayContaining(['CREATE a', 'RENAME a']));
    await filesystem.removeWatcher({ watcherId });
    expect((await failure(filesystem.getWatcherEvents({ watcherId }))).code).toBe(Code.NotFound);
  });
});
