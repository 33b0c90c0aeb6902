import { createHash, createHmac } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { EventType, Filesystem } from '@aviary/proto/filesystem';
import { Process, Signal } from '@aviary/proto/process';
import { waitFor } from '@aviary/service-kit/deadline';
import { Code, ConnectError, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signFileRequest } from './access/file-signature.ts';
import type { GuestMachine } from './lifecycle/guest-machine.ts';
import { type GuestAgent, startGuestAgent } from './start.ts';

const hostToken = 'host-secret';
const accessToken = 'sandbox-secret';
const isRoot = process.getuid?.() === 0;
/** Where this machine offers cgroup v2; a test that needs groups is skipped without. */
const cgroupMount = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find(
  (path) => isRoot && existsSync(join(path, 'cgroup.procs')),
);
const cgroupRoot = cgroupMount && join(cgroupMount, `aviary-agent-test-${process.pid}`);

const applied: string[] = [];
const machine: GuestMachine = {
  setClock: (unixMs) => applied.push(`clock ${unixMs}`),
  addEntropy: (bytes) => applied.push(`entropy ${bytes.length}`),
  setIdentity: ({ hostname, machineId }) => applied.push(`identity ${hostname} ${machineId}`),
  dropStaleConnections: () => true,
  flushNeighbours: () => applied.push('neighbours'),
  syncDisks: async () => void applied.push('sync'),
  dirtyBytes: () => 0,
};

let agent: GuestAgent;
let directory: string;
let base: string;

beforeAll(async () => {
  if (cgroupRoot) mkdirSync(cgroupRoot);
  directory = mkdtempSync(join(tmpdir(), 'aviary-agent-'));
  chmodSync(directory, 0o755);
  agent = await startGuestAgent(
    {
      host: '127.0.0.1',
      port: 0,
      hostTokenSha256: createHash('sha256').update(hostToken).digest('hex'),
      cgroupRoot,
      launcher: { shell: ['/bin/sh'], env: ['/usr/bin/env'] },
    },
    { machine, retention: { unreadMs: 60_000, readMs: 5_000, maxEnded: 64 } },
  );
  base = `http://127.0.0.1:${agent.port}`;
  const response = await initialize();
  expect(response.status, await response.text()).toBe(204);
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
  if (!cgroupRoot) return;
  await waitFor({ what: 'removal of the test cgroup', timeoutMs: 5_000 }, () => {
    try {
      for (const name of readdirSync(join(cgroupRoot, 'user'))) {
        if (/^p\d+$/.test(name)) rmdirSync(join(cgroupRoot, 'user', name));
      }
      rmdirSync(join(cgroupRoot, 'user'));
      rmdirSync(cgroupRoot);
      return true;
    } catch {
      return false;
    }
  });
});

function initialize(changes: Record<string, unknown> = {}): Promise<Response> {
  return fetch(`${base}/init`, {
    method: 'POST',
    headers: { 'x-aviary-host-token': hostToken, 'content-type': 'application/json' },
    body: JSON.stringify({
      accessToken,
      timestampMs: 1_700_000_000_000,
      entropyBase64: Buffer.alloc(64, 7).toString('base64'),
      hostname: 'sandbox-1',
      machineId: '0123456789abcdef0123456789abcdef',
      envVars: { FROM_SANDBOX: 'yes' },
      ...changes,
    }),
  });
}

function clients({ user, token = accessToken, json = true }: { user?: string; token?: string; json?: boolean } = {}) {
  const authenticate: Interceptor = (next) => (request) => {
    request.header.set('x-access-token', token);
    if (user !== undefined) request.header.set('authorization', `Basic ${Buffer.from(`${user}:`).toString('base64')}`);
    return next(request);
  };
  const transport = createConnectTransport({
    baseUrl: base,
    httpVersion: '1.1',
    useBinaryFormat: !json,
    interceptors: [authenticate],
  });
  return { process: createClient(Process, transport), filesystem: createClient(Filesystem, transport) };
}

type ProcessClient = ReturnType<typeof clients>['process'];
type StartInput = Parameters<ProcessClient['start']>[0];

interface Finished {
  pid: number;
  stdout: Buffer;
  stderr: Buffer;
  pty: Buffer;
  exitCode: number | undefined;
  status: string | undefined;
  kinds: string[];
}

async function collect(
  stream: AsyncIterable<{ event?: { event: { case?: string | undefined; value?: unknown } } | undefined }>,
): Promise<Finished> {
  const parts: Record<string, Buffer[]> = { stdout: [], stderr: [], pty: [] };
  const finished: Finished = {
    pid: 0,
    stdout: Buffer.alloc(0),
    stderr: Buffer.alloc(0),
    pty: Buffer.alloc(0),
    exitCode: undefined,
    status: undefined,
    kinds: [],
  };
  for await (const { event } of stream) {
    const inner = event?.event;
    finished.kinds.push(String(inner?.case));
    if (inner?.case === 'start') finished.pid = (inner.value as { pid: number }).pid;
    if (inner?.case === 'end') {
      const end = inner.value as { exitCode: number; status: string };
      finished.exitCode = end.exitCode;
      finished.status = end.status;
    }
    if (inner?.case === 'data') {
      const { output } = inner.value as { output: { case: string; value: Uint8Array } };
      parts[output.case]?.push(Buffer.from(output.value));
    }
  }
  for (const name of ['stdout', 'stderr', 'pty'] as const) finished[name] = Buffer.concat(parts[name] ?? []);
  return finished;
}

type StartOptions = { stdin?: boolean; tag?: string; cwd?: string };

function shell(command: string, { cwd, ...more }: StartOptions = {}): StartInput {
  return { process: { cmd: '/bin/sh', args: ['-c', command], ...(cwd === undefined ? {} : { cwd }) }, ...more };
}

async function failure(work: Promise<unknown>): Promise<ConnectError> {
  return work.then(
    () => expect.fail('the call succeeded'),
    (error: unknown) => ConnectError.from(error),
  );
}

/** Starts a command and returns its pid without reading further. */
async function startAndLeave(command: string, more: StartOptions = {}): Promise<number> {
  // Leaving the loop alone would keep the connection.
  const connection = new AbortController();
  try {
    for await (const { event } of clients().process.start(shell(command, more), { signal: connection.signal })) {
      if (event?.event.case === 'start') return event.event.value.pid;
    }
  } finally {
    connection.abort();
  }
  return expect.fail('no start event');
}

describe('processes', () => {
  for (const json of [true, false]) {
    it(`returns binary output, both streams and the exit code (${json ? 'JSON' : 'binary'})`, async () => {
      const result = await collect(
        clients({ json }).process.start(shell('printf "\\000\\377\\001"; echo oops >&2; exit 3')),
      );
      expect(result.kinds[0]).toBe('start');
      expect(result.kinds.at(-1)).toBe('end');
      expect([...result.stdout]).toEqual([0, 255, 1]);
      expect(result.stderr.toString()).toBe('oops\n');
      expect(result).toMatchObject({ exitCode: 3, status: 'exit status 3' });
    });
  }

  it('layers the environment: user basics, sandbox, request', async () => {
    const result = await collect(
      clients().process.start({
        process: { cmd: '/bin/sh', args: ['-c', 'echo $HOME $USER $LOGNAME $FROM_SANDBOX $MINE'], envs: { MINE: 'm' } },
      }),
    );
    expect(result.stdout.toString()).toBe('/root root root yes m\n');
  });

  it.skipIf(!isRoot)('runs as the named user with its groups, who may open /dev/stdout', async () => {
    const result = await collect(
      clients({ user: 'nobody' }).process.start(
        shell('id -u; id -G; echo open > /dev/stdout; cat /proc/self/oom_score_adj', { cwd: '/' }),
      ),
    );
    expect(result.stdout.toString()).toBe('65534\n65534\nopen\n300\n');
    expect(process.geteuid?.()).toBe(0);
  });

  it('refuses what cannot start', async () => {
    const { process: client } = clients();
    const noDirectory = await failure(collect(client.start({ process: { cmd: '/bin/true', cwd: '/no/such/place' } })));
    expect(noDirectory.code).toBe(Code.InvalidArgument);
    expect(noDirectory.message).toContain('/no/such/place');
    expect((await failure(collect(client.start({ process: { cmd: 'no-such-program' } })))).code).toBe(Code.NotFound);
    const stranger = await failure(collect(clients({ user: 'nobody-here' }).process.start(shell('true'))));
    expect(stranger.code).toBe(Code.Unauthenticated);
    expect(stranger.message).toContain('nobody-here');
    expect((await failure(collect(clients({ token: 'wrong' }).process.start(shell('true'))))).code).toBe(
      Code.Unauthenticated,
    );
  });

  it('feeds standard input and closes it', async () => {
    const { process: client } = clients();
    const pid = await startAndLeave('cat');
    const input = Buffer.from([0, 1, 2, 255]);
    await client.sendInput({
      process: { selector: { case: 'pid', value: pid } },
      input: { input: { case: 'stdin', value: input } },
    });
    await client.closeStdin({ process: { selector: { case: 'pid', value: pid } } });
    const result = await collect(client.connect({ process: { selector: { case: 'pid', value: pid } } }));
    expect(result.stdout.equals(input)).toBe(true);
    expect(result.exitCode).toBe(0);
  });

  it('gives end of file at once when stdin is not wanted', async () => {
    expect((await collect(clients().process.start(shell('cat; echo done', { stdin: false })))).stdout.toString()).toBe(
      'done\n',
    );
  });

  it('replays output to a client that comes after the end, by tag', async () => {
    const { process: client } = clients();
    const pid = await startAndLeave('read go; echo one; echo two >&2; exit 5', { tag: 'job' });
    await client.sendInput({
      process: { selector: { case: 'tag', value: 'job' } },
      input: { input: { case: 'stdin', value: Buffer.from('go\n') } },
    });
    await waitFor(
      { what: 'end of the process', timeoutMs: 5_000 },
      () => agent.registry.find({ by: 'pid', pid }).hasEnded,
    );
    expect((await client.list({})).processes.map(({ tag }) => tag)).toContain('job');
    const result = await collect(client.connect({ process: { selector: { case: 'tag', value: 'job' } } }));
    expect(result).toMatchObject({ pid, exitCode: 5 });
    expect(result.stdout.toString() + result.stderr.toString()).toBe('one\ntwo\n');
  });

  it('kills the tree at the deadline', async () => {
    const mark = `${directory}/tree-pid`;
    const error = await failure(
      collect(clients().process.start(shell(`sleep 77 & echo $! > ${mark}; wait`), { timeoutMs: 500 })),
    );
    expect(error.code).toBe(Code.DeadlineExceeded);
    const child = Number(readFileSync(mark, 'utf8'));
    await waitFor({ what: 'death of the grandchild', timeoutMs: 5_000 }, () => !isAlive(child));
  });

  it('ends although a background program keeps the output open, and tree-kills that program', async () => {
    const result = await collect(clients().process.start(shell('sleep 78 & echo $!')));
    expect(result.exitCode).toBe(0);
    const background = Number(result.stdout.toString());
    expect(isAlive(background)).toBe(true);
    process.kill(background, 'SIGKILL');
  });

  it('signals a process alone, or with its tree', async () => {
    const { process: client } = clients();
    const pid = await startAndLeave('sleep 79 & echo $!; wait');
    const stream = collect(client.connect({ process: { selector: { case: 'pid', value: pid } } }));
    await client.sendSignal({ process: { selector: { case: 'pid', value: pid } }, signal: Signal.SIGTERM, tree: true });
    const result = await stream;
    expect(result).toMatchObject({ exitCode: -1, status: 'signal: terminated' });
    await waitFor({ what: 'death of the child', timeoutMs: 5_000 }, () => !isAlive(Number(result.stdout.toString())));
    const again = await failure(
      client.sendSignal({ process: { selector: { case: 'pid', value: pid } }, signal: Signal.SIGTERM }),
    );
    expect(again.code).toBe(Code.NotFound);
  });

  it('gives a fast reader all of 100 MB while another one stands still', async () => {
    const { process: client } = clients({ json: false });
    const pid = await startAndLeave('read go; head -c 100000000 /dev/zero');
    const selector = { selector: { case: 'pid' as const, value: pid } };
    const stalled = client.connect({ process: selector })[Symbol.asyncIterator]();
    await stalled.next();
    let received = 0;
    let isEnded = false;
    const fast = (async () => {
      for await (const { event } of client.connect({ process: selector })) {
        if (event?.event.case === 'start') {
          await client.sendInput({
            process: selector,
            input: { input: { case: 'stdin', value: Buffer.from('go\n') } },
          });
        }
        if (event?.event.case === 'data') received += event.event.value.output.value?.length ?? 0;
        isEnded ||= event?.event.case === 'end';
      }
    })();
    await fast;
    expect(received).toBe(100_000_000);
    expect(isEnded).toBe(true);
    const lagging = await failure(
      (async () => {
        while (!(await stalled.next()).done);
      })(),
    );
    expect(lagging.code).toBe(Code.ResourceExhausted);
  }, 60_000);

  it('runs a terminal: size, resize, input, bytes', async () => {
    const { process: client } = clients();
    const stream = client
      .start({ process: { cmd: '/bin/sh', args: [] }, pty: { size: { cols: 91, rows: 23 } } })
      [Symbol.asyncIterator]();
    const first = await stream.next();
    const pid = first.value?.event?.event.case === 'start' ? first.value.event.event.value.pid : 0;
    const target = { selector: { case: 'pid' as const, value: pid } };
    const type = (text: string) =>
      client.sendInput({ process: target, input: { input: { case: 'pty', value: Buffer.from(text) } } });
    await type('stty size\n');
    await client.update({ process: target, pty: { size: { cols: 101, rows: 33 } } });
    await type('stty size; printf "\\303\\244\\377"; exit 4\n');
    const rest = await collect({ [Symbol.asyncIterator]: () => stream });
    expect(rest.pty.toString('latin1')).toMatch(/33 101/);
    expect(rest.pty.includes(Buffer.from([0xc3, 0xa4, 0xff]))).toBe(true);
    expect(rest.exitCode).toBe(4);
    expect(agent.registry.list().some((entry) => entry.pid === pid)).toBe(false);
  });

  it('leaks neither descriptors nor processes nor groups over 200 runs', async () => {
    const { process: client } = clients();
    await collect(client.start(shell('true')));
    const before = openDescriptors();
    const listed = agent.registry.list().length;
    for (let run = 0; run < 200; run++) await collect(client.start(shell('echo x')));
    await waitFor({ what: 'release of descriptors', timeoutMs: 10_000 }, () => openDescriptors() <= before + 5);
    await waitFor({ what: 'a process list as before', timeoutMs: 5_000 }, () => agent.registry.list().length <= listed);
    if (cgroupRoot) {
      const groups = readdirSync(join(cgroupRoot, 'user')).filter((name) => /^p\d+$/.test(name));
      expect(groups.length).toBeLessThan(10);
    }
  }, 60_000);
});

describe('freeze', () => {
  it.skipIf(!cgroupRoot)('stops user processes, syncs, answers meanwhile, and thaws', async () => {
    const counter = join(directory, 'counter');
    const pid = await startAndLeave(`while :; do echo x >> ${counter}; sleep 0.01; done`);
    await waitFor({ what: 'a first count', timeoutMs: 5_000 }, () => existsSync(counter));
    const headers = { 'x-aviary-host-token': hostToken };
    expect((await fetch(`${base}/freeze`, { method: 'POST', headers: { 'x-access-token': accessToken } })).status).toBe(
      401,
    );
    expect((await fetch(`${base}/freeze`, { method: 'POST', headers })).status).toBe(204);
    expect(applied).toContain('sync');
    const frozenSize = statSync(counter).size;
    expect((await fetch(`${base}/metrics`, { headers })).status).toBe(200);
    expect(statSync(counter).size).toBe(frozenSize);
    expect((await fetch(`${base}/thaw`, { method: 'POST', headers })).status).toBe(204);
    await waitFor({ what: 'a count after the thaw', timeoutMs: 5_000 }, () => statSync(counter).size > frozenSize);
    await clients().process.sendSignal({ process: { selector: { case: 'pid', value: pid } }, signal: Signal.SIGKILL });
  });
});

describe('init and access', () => {
  it('applies each step, and names a bad field', async () => {
    expect(applied).toEqual(expect.arrayContaining(['clock 1700000000000', 'entropy 64', 'neighbours']));
    const refused = await initialize({ machineId: 'short' });
    expect(refused.status).toBe(400);
    expect(await refused.text()).toContain('machineId');
  });

  it('rotates the access token', async () => {
    expect((await initialize({ accessToken: 'second' })).status).toBe(204);
    expect((await fetch(`${base}/envs`, { headers: { 'x-access-token': accessToken } })).status).toBe(401);
    expect(await (await fetch(`${base}/envs`, { headers: { 'x-access-token': 'second' } })).json()).toEqual({
      FROM_SANDBOX: 'yes',
    });
    expect((await initialize()).status).toBe(204);
  });

  it('proves that it knows the digest of the host token, for one nonce', async () => {
    const key = createHash('sha256').update(hostToken).digest();
    for (const nonce of ['0'.repeat(64), 'ab'.repeat(32)]) {
      const response = await fetch(`${base}/proof?nonce=${nonce}`);
      const proof = createHmac('sha256', key).update(`aviary-guest-proof-1:${nonce}`).digest('hex');
      expect([response.status, response.headers.get('x-aviary-proof')]).toEqual([204, proof]);
    }
    expect((await fetch(`${base}/proof?nonce=short`)).status).toBe(400);
  });

  it('opens health and its proof to anybody, and nothing else', async () => {
    expect((await fetch(`${base}/health`)).status).toBe(204);
    for (const path of ['/version', '/metrics', '/envs', '/files?path=/etc/passwd']) {
      expect((await fetch(base + path)).status, path).toBe(401);
    }
  });
});

describe('files', () => {
  const headers = { 'x-access-token': accessToken };
  const urlOf = (path: string, more = '') => `${base}/files?path=${encodeURIComponent(path)}${more}`;

  it('takes and gives bytes both ways, with ranges and gzip', async () => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 31) % 256));
    const path = join(directory, 'deep/er/data.bin');
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
    mkdirSync(join(directory, 'shared'));
    chmodSync(join(directory, 'shared'), 0o777);
    const form = new FormData();
    form.append('file', new Blob(['first']), join(directory, 'shared/form/a.txt'));
    form.append('file', new Blob(['second']), join(directory, 'shared/form/b.txt'));
    const response = await fetch(`${base}/files?username=nobody`, { method: 'POST', headers, body: form });
    expect(((await response.json()) as { name: string }[]).map(({ name }) => name)).toEqual(['a.txt', 'b.txt']);
    expect(readFileSync(join(directory, 'shared/form/b.txt'), 'utf8')).toBe('second');
    expect([statSync(join(directory, 'shared/form')).uid, statSync(join(directory, 'shared/form/a.txt')).uid]).toEqual([
      65_534, 65_534,
    ]);
  });

  it('answers 404, 400, 401 and an empty file', async () => {
    expect((await fetch(urlOf(join(directory, 'absent')), { headers })).status).toBe(404);
    expect((await fetch(urlOf(directory), { headers })).status).toBe(400);
    expect((await fetch(urlOf('/a\0b'), { headers })).status).toBe(400);
    expect((await fetch(urlOf(`/${'x'.repeat(300)}`), { headers })).status).toBe(400);
    expect((await fetch(urlOf('/etc/hosts', '&username=nobody-here'), { headers })).status).toBe(401);
    writeFileSync(join(directory, 'empty'), '');
    expect((await fetch(urlOf(join(directory, 'empty')), { headers })).headers.get('content-length')).toBe('0');
  });

  it('accepts a signed URL for its path and operation only, until it expires', async () => {
    const path = join(directory, 'signed');
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
    writeFileSync(join(directory, 'one'), '1');
    writeFileSync(join(directory, 'two'), '2');
    const destination = join(directory, 'joined');
    const response = await fetch(`${base}/files/compose`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ source_paths: [join(directory, 'one'), join(directory, 'two')], destination }),
    });
    expect(response.status).toBe(200);
    expect(readFileSync(destination, 'utf8')).toBe('12');
  });

  it('makes, describes, moves, lists and removes', async () => {
    const { filesystem } = clients();
    const path = join(directory, 'tree');
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
    const { filesystem } = clients();
    const path = join(directory, 'watched');
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

function isAlive(pid: number): boolean {
  try {
    // A zombie that its parent has not collected is dead all the same.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
