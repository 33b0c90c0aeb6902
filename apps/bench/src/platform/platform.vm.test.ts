import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { insertApiKey } from '@aviary/control-plane';
import { must, newId } from '@aviary/core';
import { openDatabase } from '@aviary/database';
import { testImages } from '@aviary/host-agent/testing';
import { AviaryClient, type AviaryError, type ExecEvent, type Sandbox, type SandboxStatus } from '@aviary/sdk';
import { waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PlatformHarness, startPlatformHarness } from './platform-harness.ts';

// Everything together: `aviary up` with its real services and microVMs, driven as users do. One platform for the whole file, and
// few microVMs: each start costs seconds on a software CPU.
let platform: PlatformHarness;
let client: AviaryClient;
const wait = { waitSec: 90 };

beforeAll(async () => {
  const settings = { AVIARY_READY_SLOTS: '1', AVIARY_WARM_POOL: '0' };
  platform = await startPlatformHarness({ imagesFrom: await testImages(), settings });
  client = platform.client;
}, 600_000);
afterAll(() => platform?.[Symbol.asyncDispose](), 60_000);

/** How a call fails, in the parts that callers branch on. */
async function failureOf(call: Promise<unknown>) {
  const error = await call.then(
    (value) => {
      throw new Error(`it did not fail: ${JSON.stringify(value)}`);
    },
    (reason: AviaryError) => reason,
  );
  return { status: error.status, code: error.code, details: error.details, message: error.message };
}

function until(id: string, status: SandboxStatus, timeoutMs: number): Promise<Sandbox> {
  return waitFor({ what: `${id} being ${status}`, timeoutMs, intervalMs: 50 }, async () => {
    const sandbox = await client.sandboxes.get(id);
    return sandbox.status === status ? sandbox : undefined;
  });
}

async function shell(id: string, cmd: string): Promise<string> {
  const { stdout, stderr, exit_code } = await client.sandboxes.exec(id, { cmd, timeout_sec: 60 });
  if (exit_code !== 0) throw new Error(`${cmd} ended with ${exit_code}: ${stderr}`);
  return stdout.trim();
}

/** A command, a child of it and one that left its session: three processes that can be told by `mark`. */
const family = (mark: number) => `sleep ${mark} & setsid sh -c 'exec sleep ${mark}' & sleep ${mark}; wait`;

/** A second team in the store of a platform that is down. Answers its API key. */
async function addTeam(dataDir: string): Promise<string> {
  await using database = await openDatabase({ directory: path.join(dataDir, 'control-plane/pglite') });
  const teamId = newId('team');
  await database.db.insertInto('teams').values({ id: teamId, name: 'Other', slug: teamId }).execute();
  return (await insertApiKey(database.db, { teamId, name: 'test' })).key;
}

/** Every way to a sandbox says to another team that there is none. */
async function expectHidden(stranger: AviaryClient, id: string): Promise<void> {
  const { sandboxes, files, generations, snapshots } = stranger;
  const calls = [
    ...[sandboxes.get(id), sandboxes.pause(id), sandboxes.resume(id), sandboxes.fork(id), sandboxes.delete(id)],
    ...[sandboxes.ping(id), sandboxes.setTimeout(id, 1), sandboxes.rewind(id, 'clean'), sandboxes.exec(id, 'true')],
    ...[files.read(id, '/etc/passwd'), files.list(id, '/'), files.mkdir(id, '/tmp/m'), files.remove(id, '/tmp/m')],
    ...[files.write(id, { path: '/tmp/f', data: '' }), generations.list(id)],
    snapshots.create({ sandbox_id: id, name: 'theirs' }),
    Array.fromAsync(sandboxes.execStream(id, 'true')),
  ];
  const failures = await Promise.all(calls.map(failureOf));
  expect(failures.map(({ status, code }) => [status, code])).toEqual(calls.map(() => [404, 'not_found']));
  expect(await Array.fromAsync(sandboxes.list())).toEqual([]);
}

describe('the platform on one machine', () => {
  let id = '';

  it('accepts a sandbox at once, and says when it runs', async () => {
    const accepted = await client.sandboxes.create({ metadata: { job: '7' } }, { idempotencyKey: 'first-create' });
    expect(accepted).toMatchObject({ status: 'starting', metadata: { job: '7' }, template: 'minimal' });
    id = accepted.id;
    const repeated = await client.sandboxes.create({ metadata: { job: '7' } }, { idempotencyKey: 'first-create' });
    expect(repeated.id).toBe(id);
    const reused = client.sandboxes.create({ metadata: { job: '8' } }, { idempotencyKey: 'first-create' });
    expect(await failureOf(reused)).toMatchObject({ status: 422, code: 'idempotency_mismatch' });
    expect(await until(id, 'running', 120_000)).toMatchObject({ start_path: 'cold_boot', status_reason: null });
    expect(await platform.vmmPids()).not.toEqual([]);
  });

  const countOf = async (mark: number) => Number(await shell(id, `pgrep -fc '^sleep ${mark}$' || true`));
  const becomes = (mark: number, count: number) =>
    waitFor({ what: `${count} processes of ${mark}`, timeoutMs: 20_000, intervalMs: 100 }, async () =>
      (await countOf(mark)) === count ? true : undefined,
    );
  const expectRunning = (mark: number) => becomes(mark, 3);
  const expectStopped = (mark: number) => becomes(mark, 0);

  it('runs commands with their input, output and exit code', async () => {
    const result = await client.sandboxes.exec(id, 'id -un; pwd; echo err >&2; exit 3');
    expect(result).toMatchObject({ stdout: 'user\n/home/user\n', stderr: 'err\n', exit_code: 3, encoding: 'utf-8' });
    const counted = await client.sandboxes.exec(id, { cmd: 'wc', args: ['-c'], stdin: 'ä'.repeat(300_000) });
    expect(counted.stdout.trim()).toBe('600000');
    const binary = await client.sandboxes.exec(id, "printf '\\377\\000\\001'");
    expect(binary).toMatchObject({ encoding: 'base64', stdout: Buffer.from([0xff, 0, 1]).toString('base64') });
    const settings = await client.sandboxes.exec(id, {
      cmd: 'echo "$A"; pwd',
      cwd: '/tmp',
      user: 'root',
      envs: { A: 'b c' },
    });
    expect(settings.stdout).toBe('b c\n/tmp\n');
  });

  it.each([
    ['a missing directory', { cmd: 'true', cwd: '/nowhere' }, 'cwd'],
    ['an unknown user', { cmd: 'true', user: 'ghost' }, 'user'],
  ])('answers %s with the field at fault', async (_what, request, field) => {
    expect(await failureOf(client.sandboxes.exec(id, request))).toMatchObject({
      status: 400,
      code: 'invalid_request',
      details: { field },
    });
    const stream = Array.fromAsync(client.sandboxes.execStream(id, request));
    expect(await failureOf(stream)).toMatchObject({ code: 'invalid_request', details: { field } });
  });

  it('kills a command at its limit, and says so', async () => {
    const late = await client.sandboxes.exec(id, { cmd: `echo so far; ${family(987)}`, timeout_sec: 2 });
    expect(late).toMatchObject({ stdout: 'so far\n', timed_out: true, exit_code: 137, signal: 'SIGKILL' });
    await expectStopped(987);
    const killed = await client.sandboxes.exec(id, 'kill -9 $$');
    expect(killed).toMatchObject({ timed_out: false, exit_code: 137, signal: 'SIGKILL' });
  });

  it('stops a command with all it started when its client leaves, and a detached one not', async () => {
    const { sandboxes } = client;
    for await (const _event of sandboxes.execStream(id, family(4301))) break;
    const aborted = new AbortController();
    const stream = Array.fromAsync(sandboxes.execStream(id, family(4302), { signal: aborted.signal }));
    const gone = new AbortController();
    const call = sandboxes.exec(id, { cmd: family(4303), timeout_sec: 600 }, { signal: gone.signal });
    const calls = Promise.allSettled([stream, call]);
    await expectRunning(4302);
    await expectRunning(4303);
    aborted.abort(new Error('enough'));
    gone.abort(new Error('enough'));
    await calls;
    for (const mark of [4301, 4302, 4303]) await expectStopped(mark);
    const { pid } = await sandboxes.execDetached(id, family(4304));
    expect(await shell(id, `kill -0 ${pid} && echo there`)).toBe('there');
    for await (const _event of sandboxes.execStream(id, { cmd: family(4305), detach: true })) break;
    await expectRunning(4304);
    await expectRunning(4305);
    await shell(id, "pkill -9 -f '^sleep 430[45]$'");
  });

  it('stops a command when its sandbox is paused, says so, and lets a detached one go on', async () => {
    const cut = failureOf(Array.fromAsync(client.sandboxes.execStream(id, family(4311))));
    await expectRunning(4311);
    await client.sandboxes.execDetached(id, 'sleep 4312');
    await client.sandboxes.pause(id, wait);
    expect(await cut).toMatchObject({ code: 'invalid_state', details: { state: 'paused', command: 'stopped' } });
    await client.sandboxes.resume(id, wait);
    await expectStopped(4311);
    expect(await shell(id, "pgrep -fc '^sleep 4312$'; pkill -f '^sleep 4312$'")).toBe('1');
  });

  it('feeds standard input as the command reads it, and drops output past the cap where it is written', async () => {
    const pieces = (async function* () {
      for (let at = 0; at < 20; at++) yield Buffer.alloc(100_000, at);
    })();
    const fed = await Array.fromAsync(client.sandboxes.execStream(id, { cmd: 'wc -c', stdin: pieces }));
    expect(fed.map((event) => ('data' in event ? Buffer.from(event.data).toString() : event.type))).toEqual([
      ...['start', '2000000\n', 'exit'],
    ]);
    const flood = await client.sandboxes.exec(id, { cmd: 'head -c 20000000 /dev/zero | tr "\\0" x', timeout_sec: 120 });
    expect(flood).toMatchObject({ exit_code: 0, truncated: true, dropped_stdout_bytes: 20_000_000 - 8 * 1024 * 1024 });
    expect(flood.stdout).toHaveLength(8 * 1024 * 1024);
    const { last_activity, last_active_at } = await client.sandboxes.get(id);
    expect(last_activity).toBe('exec');
    expect(Date.now() - Date.parse(last_active_at ?? '')).toBeLessThan(30_000);
  });

  it('starts programs as a shell does, as any user, with any variable', async () => {
    await client.files.write(id, { path: '/home/user/x.sh', data: '#!/bin/sh\n' });
    const results = await Promise.all([
      client.sandboxes.exec(id, { cmd: 'nosuchcmd', args: ['now'] }),
      client.sandboxes.exec(id, { cmd: './x.sh', args: ['now'] }),
      client.sandboxes.exec(id, { cmd: 'env', args: [], envs: { 'a.b': '1', OK: '2' } }),
      client.sandboxes.exec(id, {
        cmd: 'id -u; id -g; pwd; ulimit -Hn; cat /proc/sys/fs/inotify/max_user_watches',
        user: '4242:7',
      }),
    ]);
    const [missing, refused, variables, stranger] = results;
    expect([missing?.exit_code, missing?.stderr]).toEqual([127, expect.stringContaining('no such program')]);
    expect([refused?.exit_code, refused?.stderr]).toEqual([126, expect.stringContaining('not executable')]);
    expect(variables?.stdout.split('\n')).toEqual(expect.arrayContaining(['a.b=1', 'OK=2', 'LANG=C.UTF-8']));
    expect(stranger?.stdout).toBe('4242\n7\n/\n1048576\n524288\n');
  });

  it('streams output while the command runs, then its exit code', async () => {
    const events: ExecEvent[] = [];
    await shell(id, 'mkfifo -m 666 /tmp/fifo');
    const request = { cmd: 'echo one; read line < /tmp/fifo; echo $line >&2; exit 7', timeout_sec: 60 };
    for await (const event of client.sandboxes.execStream(id, request)) {
      events.push(event);
      // The command ends only because its first output has come before its end.
      if (event.type === 'stdout') await shell(id, 'echo two > /tmp/fifo');
    }
    const seen = events.map((event) =>
      'data' in event ? [event.type, Buffer.from(event.data).toString()] : [event.type],
    );
    expect(seen).toEqual([['start'], ['stdout', 'one\n'], ['stderr', 'two\n'], ['exit']]);
    expect(events.at(-1)).toEqual({ type: 'exit', exit_code: 7, signal: null, timed_out: false });
  });

  it('moves files of any content, size and name', async () => {
    const large = randomBytes(20 * 1024 * 1024);
    await client.files.write(id, { path: '/home/user/deep/er/large', data: large });
    expect(Buffer.from(await client.files.read(id, '/home/user/deep/er/large')).equals(large)).toBe(true);
    const odd = '/home/user/odd ü "\'`$x;&?#%41\n\t.txt';
    await client.files.write(id, { path: odd, data: '' });
    expect(await client.files.readText(id, odd)).toBe('');
    await client.files.mkdir(id, '/home/user/made/of/parts');
    const listed = await client.files.list(id, '/home/user', { depth: 3 });
    const paths = listed.map(({ path: entry, type }) => [entry, type]);
    expect(paths).toContainEqual([odd, 'file']);
    expect(paths).toContainEqual(['/home/user/made/of/parts', 'directory']);
    expect(listed.find(({ name }) => name === 'large')).toMatchObject({ size: large.length, owner: 'user' });
    await client.files.remove(id, '/home/user/made');
    const gone = { status: 404, code: 'not_found', details: { field: 'path' } };
    expect(await failureOf(client.files.list(id, '/home/user/made'))).toMatchObject(gone);
    expect(await failureOf(client.files.read(id, '/home/user/made'))).toMatchObject(gone);
    expect(await failureOf(client.files.read(id, '/home'))).toMatchObject({ status: 400, details: { field: 'path' } });
    const ghost = client.files.write(id, { path: '/tmp/x', data: '' }, { user: 'ghost' });
    expect(await failureOf(ghost)).toMatchObject({ status: 400, details: { field: 'user' } });
  });

  it('gives the command line the exit code of what ran', async () => {
    const ran = await platform.aviary('sandbox', 'exec', id, '--', 'echo out; echo err >&2; exit 9');
    expect(ran).toEqual({ exitCode: 9, stdout: 'out\n', stderr: 'err\n' });
    const own = await platform.aviary('run', '--json', '--', 'cat /etc/hostname; exit 4');
    const outcome = JSON.parse(own.stdout);
    expect(own.exitCode).toBe(4);
    expect(outcome).toMatchObject({ exit_code: 4, truncated: false });
    await until(outcome.sandbox_id, 'stopped', 30_000);
    expect((await platform.aviary('sandbox', 'get', 'sb-00000000-0000-7000-8000-000000000000')).exitCode).toBe(3);
    const late = await platform.aviary('sandbox', 'exec', '--timeout', '1', id, '--', 'sleep 60');
    expect(late.exitCode).toBe(124);
  });

  it('pauses with memory and goes on where it was', async () => {
    await shell(id, 'echo kept > ~/file; nohup sleep 4242 > /dev/null 2>&1 & echo $!');
    const before = await client.sandboxes.get(id);
    const paused = await client.sandboxes.pause(id, wait);
    expect(paused).toMatchObject({ status: 'paused', status_reason: null });
    expect(paused.generation_id).not.toBeNull();
    expect(await platform.vmmPids(id.slice(3))).toEqual([]);
    expect(await failureOf(client.sandboxes.exec(id, 'true'))).toMatchObject({
      status: 409,
      code: 'invalid_state',
      details: { status: 'paused' },
    });
    const resumed = await client.sandboxes.resume(id, wait);
    expect(resumed).toMatchObject({ status: 'running', start_path: 'resume', generation_id: paused.generation_id });
    expect(Date.parse(resumed.started_at ?? '')).toBeGreaterThan(Date.parse(before.started_at ?? ''));
    expect(await shell(id, 'pgrep -c -f "sleep 424[2]"; cat ~/file')).toBe('1\nkept');
    const drift = Number(await shell(id, 'date +%s')) - Date.now() / 1_000;
    expect(Math.abs(drift)).toBeLessThan(5);
  });

  it('lists, names and pins saved states, and goes back to one', async () => {
    const [first] = await client.generations.list(id);
    const target = { sandboxId: id, generationId: must(first, 'it was paused').id };
    expect(await client.generations.update(target, { name: 'clean', pinned: true })).toMatchObject({
      name: 'clean',
      pinned: true,
      current: true,
    });
    await shell(id, 'echo later > ~/later');
    const rewound = await client.sandboxes.rewind(id, 'clean', wait);
    expect(rewound).toMatchObject({ status: 'running', generation_id: target.generationId });
    expect(await shell(id, 'ls ~/later 2>/dev/null; cat ~/file')).toBe('kept');
    expect(await failureOf(client.sandboxes.rewind(id, 'never', wait))).toMatchObject({
      status: 404,
      code: 'not_found',
    });
  });

  it('forks copies with a life of their own', async () => {
    const copies = await client.sandboxes.fork(id, { count: 2 }, wait);
    expect(copies.map(({ status, status_reason }) => [status, status_reason])).toEqual([
      ['running', null],
      ['running', null],
    ]);
    const [one, two] = copies.map((copy) => copy.id) as [string, string];
    await shell(one, 'echo changed > ~/file');
    expect(await Promise.all([one, two, id].map((each) => shell(each, 'cat ~/file')))).toEqual([
      'changed',
      'kept',
      'kept',
    ]);
    const names = await Promise.all([one, two, id].map((each) => shell(each, 'hostname')));
    expect(new Set(names).size).toBe(3);
    expect((await client.sandboxes.delete(one, wait)).status).toBe('stopped');
    await client.sandboxes.setTimeout(two, 1);
    expect(await until(two, 'paused', 30_000)).toMatchObject({
      status_reason: expect.stringContaining('1 s without activity'),
    });
    expect(await failureOf(client.sandboxes.ping(two))).toMatchObject({ status: 409, details: { status: 'paused' } });
    expect((await client.sandboxes.delete(two, wait)).status).toBe('stopped');
  });

  it('makes templates of sandboxes, which outlive their own deletion', async () => {
    const name = { sandbox_id: id, name: 'with-file' };
    expect(await client.snapshots.create(name, wait)).toMatchObject({ status: 'ready', kind: 'snapshot' });
    expect(await failureOf(client.snapshots.create(name, wait))).toMatchObject({ status: 409, code: 'already_exists' });
    const names = await Array.fromAsync(client.snapshots.list(), (snapshot) => snapshot.name);
    expect(names.sort()).toEqual(['minimal', 'with-file']);
    const made = await client.sandboxes.create({ template: 'with-file' }, wait);
    expect(made).toMatchObject({ status: 'running', template: 'with-file', start_path: 'restore' });
    await client.snapshots.delete('with-file');
    expect(await shell(made.id, 'cat ~/file')).toBe('kept');
    const paused = await client.sandboxes.pause(made.id, wait);
    expect(await client.sandboxes.resume(made.id, { ...wait, cold: true })).toMatchObject({
      status: 'running',
      start_path: 'cold_fallback',
      generation_id: paused.generation_id,
    });
    expect(await shell(made.id, 'cat ~/file')).toBe('kept');
    expect(await failureOf(client.sandboxes.create({ template: 'with-file' }))).toMatchObject({ status: 404 });
    await client.sandboxes.delete(made.id, wait);
  });

  it('says within 5 s that a microVM is gone, and can start it again', async () => {
    for (const pid of await platform.vmmPids(id.slice(3))) process.kill(pid, 'SIGKILL');
    expect(await until(id, 'error', 5_000)).toMatchObject({
      status_reason: expect.stringContaining('the microVM ended'),
    });
    expect(await failureOf(client.sandboxes.exec(id, 'true'))).toMatchObject({
      status: 409,
      details: { status: 'error' },
    });
    expect(await client.sandboxes.resume(id, wait)).toMatchObject({ status: 'running', start_path: 'resume' });
    expect(await shell(id, 'cat ~/file')).toBe('kept');
  });

  it('finishes what was asked for when the caller leaves', async () => {
    for (const [action, before, after] of [
      ['pause', 'running', 'paused'],
      ['resume', 'paused', 'running'],
    ] as const) {
      const leave = new AbortController();
      const call = client.sandboxes[action](id, { ...wait, signal: leave.signal }).then(
        () => 'answered',
        () => 'left',
      );
      await waitFor({ what: `the ${action} being accepted`, timeoutMs: 5_000, intervalMs: 5 }, async () => {
        return (await client.sandboxes.get(id)).status !== before;
      });
      leave.abort();
      expect(await call, action).toBe('left');
      expect(await until(id, after, 60_000)).toMatchObject({ status_reason: null });
    }
  });

  it('finishes what was asked for when the control plane dies', async () => {
    const pausing = client.sandboxes.pause(id, { ...wait, idempotencyKey: 'pause-and-die' });
    pausing.catch(() => undefined);
    await waitFor({ what: 'the pause being accepted', timeoutMs: 5_000, intervalMs: 5 }, async () => {
      return (await client.sandboxes.get(id)).status !== 'running';
    });
    process.kill(await platform.servicePid('control-plane'), 'SIGKILL');
    await waitFor({ what: 'the API being back', timeoutMs: 60_000, intervalMs: 100 }, () =>
      client.health({ timeoutMs: 2_000 }).then(
        () => true,
        () => false,
      ),
    );
    expect((await until(id, 'paused', 60_000)).generation_id).not.toBeNull();
    const again = await client.sandboxes.pause(id, { idempotencyKey: 'pause-and-die' });
    expect(again.id).toBe(id);
  });

  it('finishes what was asked for when the host agent dies', async () => {
    const created = await client.sandboxes.create();
    process.kill(await platform.servicePid('host-agent'), 'SIGKILL');
    const resumed = client.sandboxes.resume(id, wait);
    expect(await until(created.id, 'running', 90_000)).toMatchObject({ status_reason: null });
    expect((await resumed).status).toBe('running');
    // One that ran all the while goes on undisturbed.
    await shell(id, 'echo $PPID > /tmp/before');
    process.kill(await platform.servicePid('host-agent'), 'SIGKILL');
    await waitFor({ what: 'the sandbox answering again', timeoutMs: 60_000, intervalMs: 200 }, () =>
      shell(id, 'cat ~/file').then(
        (text) => text === 'kept',
        () => false,
      ),
    );
    expect((await client.sandboxes.get(id)).status).toBe('running');
    expect((await client.sandboxes.delete(created.id, wait)).status).toBe('stopped');
  });

  it('keeps sandboxes running while it is down', async () => {
    const uptime = Number(await shell(id, 'cut -d. -f1 /proc/uptime'));
    const pids = await platform.vmmPids(id.slice(3));
    const second = await platform.aviary('up');
    expect(second.exitCode).not.toBe(0);
    expect(second.stderr).toContain('already');
    await platform.down();
    expect(await platform.vmmPids(id.slice(3))).toEqual(pids);
    const foreignKey = await addTeam(platform.dataDir);
    await platform.up();
    await expectHidden(new AviaryClient({ apiUrl: platform.apiUrl, apiKey: foreignKey }), id);
    expect((await client.sandboxes.get(id)).status).toBe('running');
    expect(Number(await shell(id, 'cut -d. -f1 /proc/uptime'))).toBeGreaterThan(uptime);
    expect(await platform.vmmPids(id.slice(3))).toEqual(pids);
  });

  it('deletes from every state, and leaves nothing', async () => {
    const starting = await client.sandboxes.create();
    expect((await client.sandboxes.delete(starting.id, wait)).status).toBe('stopped');
    await client.sandboxes.pause(id);
    expect((await client.sandboxes.delete(id, wait)).status).toBe('stopped');
    expect((await client.sandboxes.delete(id)).status).toBe('stopped');
    expect(await failureOf(client.sandboxes.resume(id))).toMatchObject({ status: 409, details: { status: 'stopped' } });
    await waitFor({ what: 'the last microVM ending', timeoutMs: 30_000, intervalMs: 100 }, async () => {
      return (await platform.vmmPids()).length === 0;
    });
    expect(await Array.fromAsync(client.sandboxes.list({ status: ['running', 'paused', 'error', 'missing'] }))).toEqual(
      [],
    );
  });

  it('is stopped whole by `aviary down`, which keeps sandboxes or removes everything', async () => {
    const { id } = await client.sandboxes.create({ metadata: { name: 'kept' } }, wait);
    await shell(id, 'echo kept > ~/file');
    const down = await platform.aviary('down', '--json');
    expect(JSON.parse(down.stdout)).toEqual({ data_dir: platform.dataDir, purged: false, paused: 1, destroyed: 0 });
    expect(await platform.vmmPids()).toEqual([]);
    await expect(client.health({ timeoutMs: 2_000 })).rejects.toThrow();
    await platform.down();
    await platform.up();
    expect((await client.sandboxes.resume(id, wait)).status).toBe('running');
    expect(await shell(id, 'cat ~/file')).toBe('kept');
    // What runs without its platform is found all the same.
    await platform.down();
    expect(await platform.vmmPids(id.slice(3))).toHaveLength(1);
    expect((await platform.aviary('down', '--purge')).stderr).toContain('--yes');
    const purged = await platform.aviary('down', '--purge', '--yes', '--json');
    expect(JSON.parse(purged.stdout)).toMatchObject({ purged: true, destroyed: 1 });
    expect(await platform.vmmPids()).toEqual([]);
    expect(existsSync(platform.dataDir)).toBe(false);
  });
});
