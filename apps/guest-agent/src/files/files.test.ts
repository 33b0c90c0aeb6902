import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { type IncomingMessage, type RequestOptions, request as startRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { setExtendedAttribute } from '@aviary/linux';
import { Filesystem } from '@aviary/proto/filesystem';
import { readAppError } from '@aviary/service-kit/connect-errors';
import { waitFor } from '@aviary/service-kit/deadline';
import { Code, ConnectError, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type GuestAgent, startGuestAgent } from '../start.ts';

const token = 'host-secret';
const isRoot = process.getuid?.() === 0;
/** Some user that is not root, and that any Linux has. */
const nobody = { name: 'nobody', uid: 65_534, gid: 65_534 };
const isLeftOver = (name: string) => name.startsWith('.aviary');

let agent: GuestAgent;
let base: string;
let directory: string;

beforeAll(async () => {
  agent = await startGuestAgent({
    host: '127.0.0.1',
    port: 0,
    hostTokenSha256: createHash('sha256').update(token).digest('hex'),
    cgroupRoot: undefined,
    launcher: { shell: ['/bin/sh'], env: ['/usr/bin/env'] },
  });
  base = `http://127.0.0.1:${agent.port}`;
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'aviary-files-'));
  chmodSync(directory, 0o777);
  return () => rmSync(directory, { recursive: true, force: true });
});

const at = (name: string) => join(directory, name);

/** A request whose body the test writes itself. */
function open(path: string, { user = 'root', headers, ...options }: RequestOptions & { user?: string } = {}) {
  const query = new URLSearchParams({ path, username: user });
  return startRequest(`${base}/files?${query}`, {
    agent: false,
    ...options,
    headers: { 'x-aviary-host-token': token, ...headers },
  });
}

function answerTo(request: ReturnType<typeof open>): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.on('response', resolve);
    request.on('error', reject);
  });
}

async function get(path: string, options: Parameters<typeof open>[1] = {}) {
  const request = open(path, options);
  request.end();
  const response = await answerTo(request);
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}

async function post(path: string, body: string | Buffer, options: Parameters<typeof open>[1] = {}) {
  const request = open(path, { method: 'POST', ...options });
  request.end(body);
  const response = await answerTo(request);
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}

function filesystem(user = 'root') {
  const authenticate: Interceptor = (next) => (request) => {
    request.header.set('x-aviary-host-token', token);
    request.header.set('authorization', `Basic ${Buffer.from(`${user}:`).toString('base64')}`);
    return next(request);
  };
  return createClient(
    Filesystem,
    createConnectTransport({ baseUrl: base, httpVersion: '1.1', interceptors: [authenticate] }),
  );
}

/** How many files of a directory this process, and so the agent, has open: those without a name are `#NUMBER (deleted)`. */
function openBelow(path: string): number {
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // closed since
    }
  });
  return targets.filter((target) => target.startsWith(`${path}/`)).length;
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'none',
    (error: unknown) => Code[ConnectError.from(error).code],
  );

describe('an upload', () => {
  const form = { headers: { 'content-type': 'multipart/form-data; boundary=x' } };
  const head = '--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n';

  it('that breaks off leaves the file that was there, and nothing beside it', async () => {
    writeFileSync(at('up.txt'), 'original');
    const request = open(at('up.txt'), { method: 'POST', headers: { 'content-length': 5_000_000 } });
    request.on('error', () => undefined);
    request.write(Buffer.alloc(800_000));
    await waitFor({ what: 'the start of the upload', timeoutMs: 5_000 }, () => openBelow(directory) > 0);
    request.destroy();
    await waitFor({ what: 'the end of the upload', timeoutMs: 5_000 }, () => openBelow(directory) === 0);
    expect(readFileSync(at('up.txt'), 'utf8')).toBe('original');
    expect(readdirSync(directory)).toEqual(['up.txt']);
  });

  it.each([
    ['no boundary', { headers: { 'content-type': 'multipart/form-data' } }, 'xx'],
    ['garbage', form, '--x\r\ngarbage'],
    ['garbage behind the boundary', form, '--xgarbage\r\n\r\n'],
    ['nothing', form, ''],
    ['no last boundary', form, `${head}PART`],
    ['no last boundary behind a whole part', form, `${head}PART\r\n--x\r\n`],
    [
      'no part named file',
      form,
      '--x\r\nContent-Disposition: form-data; name="else"; filename="f"\r\n\r\nx\r\n--x--\r\n',
    ],
    ['two files for one path', form, `${head}one\r\n${head}two\r\n--x--\r\n`],
  ])('with a form that has %s is a bad request and changes nothing', async (_what, options, body) => {
    writeFileSync(at('up.txt'), 'original');
    const answer = await post(at('up.txt'), body, options);
    expect([answer.status, answer.headers['x-aviary-code']], answer.body).toEqual([400, 'invalid_request']);
    expect(readFileSync(at('up.txt'), 'utf8')).toBe('original');
    expect(readdirSync(directory)).toEqual(['up.txt']);
  });

  it('of many files replaces none of them when the last is cut off', async () => {
    const part = (name: string) => `--x\r\nContent-Disposition: form-data; name="file"; filename="${at(name)}"\r\n\r\n`;
    writeFileSync(at('a'), 'old');
    const request = startRequest(`${base}/files`, {
      method: 'POST',
      agent: false,
      headers: { 'x-aviary-host-token': token, ...form.headers },
    });
    request.end(`${part('a')}new\r\n${part('b')}cut`);
    expect((await answerTo(request)).statusCode).toBe(400);
    expect([readFileSync(at('a'), 'utf8'), readdirSync(directory)]).toEqual(['old', ['a']]);
  });

  it('is whole when others write the same path at once', async () => {
    const bodies = ['a', 'b', 'c', 'd'].map((letter) => Buffer.alloc(2_000_000, letter));
    const answers = await Promise.all(bodies.map((body) => post(at('same'), body)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    const written = readFileSync(at('same'));
    expect(bodies.some((body) => body.equals(written))).toBe(true);
    expect(readdirSync(directory)).toEqual(['same']);
  });

  it.skipIf(!isRoot)('to a full disk answers 507 and leaves the file that was there', async () => {
    mkdirSync(at('small'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'small', at('small')]);
    try {
      writeFileSync(at('small/file'), 'original');
      const answer = await post(at('small/file'), Buffer.alloc(1_000_000));
      expect([answer.status, answer.headers['x-aviary-code']]).toEqual([507, 'disk_full']);
      expect(readFileSync(at('small/file'), 'utf8')).toBe('original');
      expect(readdirSync(at('small'))).toEqual(['file']);
    } finally {
      execFileSync('umount', [at('small')]);
    }
  });

  it.skipIf(!isRoot)('keeps owner, mode and attributes of the file, and the link that leads to it', async () => {
    writeFileSync(at('tool'), 'old');
    chownSync(at('tool'), nobody.uid, nobody.gid);
    chmodSync(at('tool'), 0o4755);
    setExtendedAttribute(at('tool'), 'user.note', 'kept');
    symlinkSync('tool', at('link'));
    expect((await post(at('link'), 'new')).status).toBe(200);
    const { uid, gid, mode } = statSync(at('tool'));
    expect([uid, gid, mode & 0o7777]).toEqual([nobody.uid, nobody.gid, 0o4755]);
    expect(readFileSync(at('tool'), 'utf8')).toBe('new');
    const attribute = execFileSync('python3', ['-c', `import os;print(os.getxattr('${at('tool')}','user.note'))`]);
    expect(attribute.toString()).toBe("b'kept'\n");
    // A file that others may write stays theirs, without what would make it run as them.
    chownSync(at('tool'), 0, 0);
    chmodSync(at('tool'), 0o4666);
    expect((await post(at('tool'), 'mine', { user: nobody.name })).status).toBe(200);
    const after = statSync(at('tool'));
    expect([after.uid, after.mode & 0o7777]).toEqual([0, 0o666]);
    symlinkSync('absent', at('dangling'));
    expect((await post(at('dangling'), 'made')).status).toBe(200);
    expect(readFileSync(at('absent'), 'utf8')).toBe('made');
  });

  it.skipIf(!isRoot)('copies into a file that may be written but not replaced', async () => {
    mkdirSync(at('closed'), { mode: 0o755 });
    writeFileSync(at('closed/log'), 'a longer old content');
    chownSync(at('closed/log'), nobody.uid, nobody.gid);
    expect((await post(at('closed/log'), 'new', { user: nobody.name })).status).toBe(200);
    expect(readFileSync(at('closed/log'), 'utf8')).toBe('new');
    const cut = await post(at('closed/log'), `${head}PART`, { user: nobody.name, ...form });
    expect(cut.status).toBe(400);
    expect(readFileSync(at('closed/log'), 'utf8')).toBe('new');
  });

  it.skipIf(!isRoot)(
    'copies into a file of another where the directory has the sticky bit, and where it may only be written',
    async () => {
      for (const [name, directoryMode, mode] of [
        ['sticky', 0o1777, 0o666],
        ['dark', 0o777, 0o622],
      ] as const) {
        mkdirSync(at(name));
        chmodSync(at(name), directoryMode);
        writeFileSync(at(`${name}/log`), 'a longer old content');
        chmodSync(at(`${name}/log`), mode);
        const answer = await post(at(`${name}/log`), 'new', { user: nobody.name });
        expect([name, answer.status, answer.body]).toEqual([name, 200, expect.any(String)]);
        expect(readFileSync(at(`${name}/log`), 'utf8')).toBe('new');
        expect(statSync(at(`${name}/log`)).uid).toBe(0);
        expect(readdirSync(at(name))).toEqual(['log']);
      }
    },
  );
});

describe('files that are no files', () => {
  it('are refused at once, however often, and hold up nothing', async () => {
    execFileSync('mkfifo', [at('fifo')]);
    const tries = await Promise.all([
      ...Array.from({ length: 8 }, () => post(at('fifo'), 'x')),
      ...Array.from({ length: 8 }, () => get(at('fifo'))),
      get('/dev/zero'),
      post('/dev/null', 'x'),
      get(directory),
      post(directory, 'x'),
    ]);
    for (const { status, body } of tries)
      expect([status, body]).toEqual([400, expect.stringMatching(/FIFO|device|directory/)]);
    writeFileSync(at('file'), 'still served');
    expect((await get(at('file'))).body).toBe('still served');
  });

  it('are read to the end whatever size is told', async () => {
    expect(statSync('/proc/version').size).toBe(0);
    const version = await get('/proc/version');
    expect([version.status, version.body]).toEqual([200, readFileSync('/proc/version', 'utf8')]);
    expect(version.headers['content-length']).toBe(String(version.body.length));
    const maps = '/proc/sys/kernel/hostname';
    expect((await get(maps, { headers: { range: 'bytes=0-0' } })).body).toBe(readFileSync(maps, 'utf8').slice(0, 1));
    const sys = '/sys/kernel/mm/transparent_hugepage/enabled';
    if (existsSync(sys)) expect((await get(sys)).body).toBe(readFileSync(sys, 'utf8'));
  });

  it('that shrink while they are read end where they end', async () => {
    const large = 256 * 1024 * 1024;
    for (const [headers, isPromised] of [
      [{ te: 'trailers' }, false],
      [{}, true],
    ] as const) {
      closeSync(openSync(at('shrinks'), 'w'));
      truncateSync(at('shrinks'), large);
      const request = open(at('shrinks'), { headers });
      request.end();
      const response = await answerTo(request);
      expect(response.headers['content-length']).toBe(isPromised ? String(large) : undefined);
      truncateSync(at('shrinks'), 0);
      // Without a promise it is a whole answer; with one it is an answer cut off. Both are ends.
      if (isPromised) await expect(buffer(response)).rejects.toThrow('aborted');
      else expect((await buffer(response)).length).toBeLessThan(large);
    }
  });
});

describe('a listing', () => {
  it('comes in pages, in order, at any depth', async () => {
    const names = ['b', 'a', 'c10', 'c9', 'é', 'Z'];
    for (const name of names) {
      mkdirSync(at(name));
      for (let index = 0; index < 7; index++) writeFileSync(at(`${name}/${index}`), '');
    }
    const client = filesystem();
    const whole = (await client.listDir({ path: directory, depth: 3 })).entries.map(({ path }) => path);
    expect(whole).toHaveLength(48);
    expect(whole.slice(0, 9)).toEqual(['Z', ...Array.from({ length: 7 }, (_, index) => `Z/${index}`), 'a'].map(at));
    for (const pageSize of [1, 5, 8, 48]) {
      const found: string[] = [];
      let cursor = '';
      do {
        const page = await client.listDir({ path: directory, depth: 3, pageSize, cursor });
        expect(page.entries.length).toBeLessThanOrEqual(pageSize);
        found.push(...page.entries.map(({ path }) => path));
        cursor = page.nextCursor;
      } while (cursor !== '');
      expect(found).toEqual(whole);
    }
    expect(
      await codeOf(
        client.listDir({ path: directory, pageSize: 1, depth: 2, cursor: Buffer.from('../etc').toString('base64url') }),
      ),
    ).toBe('InvalidArgument');
  });

  it('of more than fits at once is refused without pages, with its own code', async () => {
    const memory = '/dev/shm';
    const many = mkdtempSync(join(existsSync(memory) ? memory : directory, 'many-'));
    try {
      for (let index = 0; index < 10_001; index++) closeSync(openSync(join(many, String(index)), 'w'));
      const error = await filesystem().listDir({ path: many }).catch(ConnectError.from);
      expect(error).toBeInstanceOf(ConnectError);
      expect(readAppError(error as ConnectError)?.code).toBe('payload_too_large');
      const { entries, nextCursor } = await filesystem().listDir({ path: many, pageSize: 10 });
      expect([entries.length, nextCursor !== '']).toEqual([10, true]);
    } finally {
      rmSync(many, { recursive: true });
    }
  }, 60_000);
});

describe.skipIf(!isRoot)('the rights of a user', () => {
  it('are those of the user who is asked for', async () => {
    mkdirSync(at('private'), { mode: 0o700 });
    writeFileSync(at('private/secret'), 'root only');
    writeFileSync(at('theirs'), 'root', { mode: 0o644 });
    chmodSync(directory, 0o755);
    const user = nobody.name;
    expect((await get(at('private/secret'), { user })).status).toBe(403);
    expect((await post(at('theirs'), 'x', { user })).status).toBe(403);
    expect((await post(at('new'), 'x', { user })).status).toBe(403);
    const client = filesystem(user);
    expect(await codeOf(client.remove({ path: at('theirs') }))).toBe('PermissionDenied');
    expect(await codeOf(client.makeDir({ path: at('made/deep') }))).toBe('PermissionDenied');
    expect(await codeOf(client.listDir({ path: at('private') }))).toBe('PermissionDenied');
    expect(await codeOf(client.stat({ path: at('private/secret') }))).toBe('PermissionDenied');
    expect(await codeOf(client.move({ source: at('theirs'), destination: '/tmp/taken' }))).toBe('PermissionDenied');
    expect(await codeOf(client.createWatcher({ path: at('private') }))).toBe('PermissionDenied');
    expect((await client.listDir({ path: directory, depth: 2 })).entries.map(({ name }) => name)).toEqual([
      'private',
      'theirs',
    ]);
    expect(readFileSync(at('theirs'), 'utf8')).toBe('root');
    expect((await get(at('private/secret'))).body).toBe('root only');
  });

  it('do not reach through what the agent has open', async () => {
    mkdirSync(at('private'), { mode: 0o700 });
    writeFileSync(at('private/secret'), 'root only', { mode: 0o644 });
    const fd = openSync(at('private/secret'), 'r');
    try {
      expect((await get(`/proc/self/fd/${fd}`, { user: nobody.name })).status).toBe(403);
      expect((await get('/proc/self/environ', { user: nobody.name })).status).toBe(403);
      expect((await post('/proc/self/mem', 'x', { user: nobody.name })).status).toBe(403);
    } finally {
      closeSync(fd);
    }
  });

  it('are taken from a number as well as from a name', async () => {
    expect((await post(at('by-number'), 'x', { user: String(nobody.uid) })).status).toBe(200);
    expect((await post(at('by-unknown'), 'x', { user: '54321' })).status).toBe(200);
    expect([statSync(at('by-number')).uid, statSync(at('by-unknown')).uid]).toEqual([nobody.uid, 54_321]);
    expect((await get(at('by-number'), { user: '99999999999' })).status).toBe(401);
    expect(readdirSync(directory).some(isLeftOver)).toBe(false);
  });
});
