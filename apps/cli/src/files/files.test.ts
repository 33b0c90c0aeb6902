import { execFileSync, spawn } from 'node:child_process';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileLimits } from '@aviary/core';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { FakeApi, fakeApiKey } from '../fake-api.ts';
import { runCli } from '../run-cli.ts';
import { readLocal } from './local-file.ts';

let api: FakeApi;
let directory: string;
let id: string;

beforeEach(async () => {
  api = await FakeApi.start();
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-cli-files-'));
  id = api.addSandbox().id;
});

afterEach(async () => {
  await api[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const at = (...names: string[]) => path.join(directory, ...names);

async function aviary(...argv: string[]) {
  const written = { stdout: '', stderr: '' };
  const stream = (name: keyof typeof written) => ({
    write: (data: string | Uint8Array) => {
      written[name] += typeof data === 'string' ? data : Buffer.from(data).toString();
    },
  });
  const env = { AVIARY_API_URL: api.url, AVIARY_API_KEY: fakeApiKey, AVIARY_DATA_DIR: directory };
  const code = await runCli({ argv, env, stdout: stream('stdout'), stderr: stream('stderr') });
  return { code, ...written };
}

const bodies = (verb: string) =>
  api.requests.filter(({ path: url }) => url.endsWith(verb)).map(({ body }) => JSON.parse(body) as unknown);

it('says in words what is wrong with a local file', async () => {
  const put = (source: string) => aviary('files', 'put', id, source, '/tmp/x');
  const missing = await put(at('none'));
  expect([missing.code, missing.stderr]).toEqual([3, expect.stringContaining('no such file or directory')]);
  const whole = await put(directory);
  expect([whole.code, whole.stderr]).toEqual([2, expect.stringContaining('it is a directory; copy it')]);
  await writeFile(at('large'), '');
  await truncate(at('large'), fileLimits.maxUploadBytes + 1);
  const large = await put(at('large'));
  expect([large.code, large.stderr]).toEqual([1, expect.stringContaining('100 MiB')]);
  expect(api.files.size).toBe(0);
  api.files.set('/f', Buffer.from('x'));
  const refused = await aviary('files', 'get', id, '/f', at('large', 'below'));
  expect([refused.code, refused.stderr]).toEqual([6, expect.stringContaining('something else has its name')]);
});

it('reads what a pipe gives, and files whose size is told as 0', async () => {
  execFileSync('mkfifo', [at('pipe')]);
  const writer = spawn('/bin/sh', ['-c', `echo hi > ${at('pipe')}`]);
  expect(await (await readLocal(at('pipe'))).text()).toBe('hi\n');
  writer.kill();
  expect(await (await readLocal('/proc/version')).text()).toBe(await readFile('/proc/version', 'utf8'));
});

it('copies into a directory that exists or is written as one', async () => {
  api.files.set('/tmp/result', Buffer.from('content'));
  await mkdir(at('there'));
  expect((await aviary('files', 'get', id, '/tmp/result', at('there'))).stdout).toBe(
    `${at('there', 'result')} 7 bytes\n`,
  );
  await aviary('files', 'get', id, '/tmp/result', `${at('new')}/`);
  expect(await readFile(at('new', 'result'), 'utf8')).toBe('content');
});

it('copies a directory into a sandbox, with its links and what may be executed', async () => {
  await mkdir(at('src', 'deep'), { recursive: true });
  await writeFile(at('src', 'deep', 'file'), 'deep');
  await writeFile(at('src', 'run.sh'), 'run');
  await chmod(at('src', 'run.sh'), 0o755);
  await symlink('run.sh', at('src', 'link'));
  const { code, stdout } = await aviary('files', 'put', '-r', id, at('src'), '/home/user/');
  expect([code, stdout]).toEqual([0, '/home/user/src 2 files, 2 directories, 1 link, 7 bytes\n']);
  expect([...api.files].map(([name, content]) => [name, String(content)]).sort()).toEqual([
    ['/home/user/src/deep/file', 'deep'],
    ['/home/user/src/run.sh', 'run'],
  ]);
  expect([...api.listings.keys()]).toEqual(['/home/user/src', '/home/user/src/deep']);
  expect(bodies('/exec')).toMatchObject([
    { args: ['-c', 'chmod +x -- "$@"', 'sh', '/home/user/src/run.sh'] },
    { args: ['-c', expect.stringContaining('ln -sfn'), 'sh', 'run.sh', '/home/user/src/link'] },
  ]);
});

it('copies a directory out of a sandbox', async () => {
  api.listings.set('out', [
    { path: '/home/user/out/a', type: 'directory' },
    { path: '/home/user/out/a/tool', type: 'file', mode: 0o755 },
    { path: '/home/user/out/link', type: 'file', symlink_target: 'a/tool' },
    { path: '/home/user/out/pipe', type: 'unknown' },
  ]);
  api.files.set('/home/user/out/a/tool', Buffer.from('tool'));
  const { code, stdout } = await aviary('files', 'get', '-r', id, 'out', directory);
  expect([code, stdout]).toEqual([
    0,
    `${at('out')} 1 file, 2 directories, 1 link, 4 bytes\nskipped /home/user/out/pipe: neither file, directory nor link\n`,
  ]);
  expect([await readFile(at('out', 'link'), 'utf8'), await readlink(at('out', 'link'))]).toEqual(['tool', 'a/tool']);
  expect((await stat(at('out', 'a', 'tool'))).mode & 0o777).toBe(0o755);
});

it('writes nothing outside of its target, whatever a guest lists', async () => {
  api.files.set('/out/../../escaped', Buffer.from('x'));
  for (const name of ['/out/../escaped', '/out/..', '/elsewhere/x', '/out/a//b']) {
    api.listings.set('/out', [
      { path: '/out/first', type: 'directory' },
      { path: name, type: 'file' },
    ]);
    const { code, stderr } = await aviary('files', 'get', '-r', id, '/out', at('safe'));
    expect([code, stderr]).toEqual([1, expect.stringContaining('the guest listed')]);
  }
  // A link that an earlier copy left leads nowhere else: it is replaced.
  await mkdir(at('outside'));
  await mkdir(at('copy'));
  await symlink(at('outside'), at('copy', 'dir'));
  api.listings.set('/copy', [
    { path: '/copy/dir', type: 'directory' },
    { path: '/copy/dir/file', type: 'file' },
  ]);
  api.files.set('/copy/dir/file', Buffer.from('inside'));
  expect((await aviary('files', 'get', '-r', id, '/copy', directory)).code).toBe(0);
  expect(await readFile(at('copy', 'dir', 'file'), 'utf8')).toBe('inside');
  await expect(stat(at('outside', 'file'))).rejects.toThrow('ENOENT');
});

it('goes through no link, of an earlier copy or of this one, to what a guest lists below it', async () => {
  await mkdir(at('outside'));
  await mkdir(at('copy'));
  await symlink(at('outside'), at('copy', 'old'));
  const link = { path: '/copy/new', type: 'directory', symlink_target: at('outside') };
  for (const listing of [
    [{ path: '/copy/old/file', type: 'file' }],
    [{ path: '/copy/old/dir', type: 'directory' }],
    [link, { path: '/copy/new/link', type: 'file', symlink_target: '/' }],
    [link, { path: '/copy/new/file', type: 'file' }],
  ]) {
    api.listings.set('/copy', [{ path: '/copy/first', type: 'directory' }, ...listing]);
    for (const { path: name } of listing) api.files.set(name, Buffer.from('x'));
    const { code, stderr } = await aviary('files', 'get', '-r', id, '/copy', directory);
    expect([code, stderr]).toEqual([1, expect.stringContaining('the guest listed')]);
    expect(await readdir(at('outside'))).toEqual([]);
  }
});

it('makes directories, and removes one only when told to', async () => {
  expect((await aviary('files', 'mkdir', id, '/tmp/d')).stdout).toBe('/tmp/d\n');
  const kept = await aviary('files', 'rm', id, '/tmp/d');
  expect([kept.code, kept.stderr]).toEqual([2, expect.stringContaining('it is a directory; -r removes')]);
  expect(bodies('/remove')).toEqual([]);
  expect((await aviary('files', 'rm', '-r', id, '/tmp/d')).code).toBe(0);
  api.files.set('/tmp/f', Buffer.from('x'));
  expect((await aviary('files', 'rm', id, '/tmp/f')).stdout).toBe('removed /tmp/f\n');
  expect((await aviary('files', 'rm', id, '/tmp/none')).code).toBe(3);
  expect(bodies('/remove')).toEqual([{ path: '/tmp/d' }, { path: '/tmp/f' }]);
});

it('prints a long listing as it comes, with one heading', async () => {
  const entries = Array.from({ length: 2_500 }, (_, index) => ({ path: `/m/${index}`, type: 'file' }));
  api.listings.set('/m', entries);
  const lines = (await aviary('files', 'ls', id, '/m')).stdout.trimEnd().split('\n');
  expect([lines.length, lines.filter((line) => line.startsWith('MODE')).length]).toEqual([2_501, 1]);
  expect(lines.at(-1)).toMatch(/rw-r--r--\s+user\s+0\s+\/m\/2499$/);
  const json = JSON.parse((await aviary('files', 'ls', id, '/m', '--json')).stdout) as { items: unknown[] };
  expect(json.items).toHaveLength(2_500);
  api.listings.set('/empty', []);
  expect((await aviary('files', 'ls', id, '/empty')).stdout).toContain('MODE');
});

it('tells how to copy a directory, where a relative target is, and shows links as such', async () => {
  api.listings.set('/srv', [{ path: '/srv/now', type: 'file', permissions: 'Lrwxrwxrwx', symlink_target: '/tmp/x' }]);
  for (const target of [[], [at('copy')]]) {
    const refused = await aviary('files', 'get', id, '/srv', ...target);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('-r copies it with all in it')]);
  }
  expect((await aviary('files', 'ls', id, '/srv')).stdout).toMatch(/^lrwxrwxrwx .* \/srv\/now -> \/tmp\/x$/m);
  await writeFile(at('rel.py'), 'x');
  api.listings.set('.', [{ path: '/home/user/.profile', type: 'file' }]);
  expect((await aviary('files', 'put', id, at('rel.py'), 'rel.py')).stdout).toBe('/home/user/rel.py 1 byte\n');
});
