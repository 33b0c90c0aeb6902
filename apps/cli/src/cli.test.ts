import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { must } from '@aviary/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FakeApi, fakeApiKey, send } from './fake-api.ts';
import { ServiceLogs } from './platform/service-logs.ts';
import { runCli } from './run-cli.ts';

const main = path.join(import.meta.dirname, 'main.ts');
let api: FakeApi;
let directory: string;

beforeEach(async () => {
  api = await FakeApi.start();
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-cli-'));
});

afterEach(async () => {
  await api[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

function start(
  args: readonly string[],
  env: Record<string, string> = {},
  stdin: 'ignore' | 'pipe' = 'ignore',
): { child: ChildProcess; ended: Promise<Outcome> } {
  const child = spawn(process.execPath, [main, ...args], {
    stdio: [stdin, 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      AVIARY_API_URL: api.url,
      AVIARY_API_KEY: fakeApiKey,
      AVIARY_DATA_DIR: directory,
      ...env,
    },
  });
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
  const ended = Promise.all([closed, text(must(child.stdout, 'a pipe')), text(must(child.stderr, 'a pipe'))]).then(
    ([code, stdout, stderr]) => ({
      code,
      stdout,
      stderr,
    }),
  );
  return { child, ended };
}

const aviary = (...args: string[]) => start(args).ended;

/** The same in this process: quicker, for what needs neither signals nor streams of its own. */
async function inProcess(...argv: string[]): Promise<Outcome> {
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

const base64 = (content: string) => Buffer.from(content).toString('base64');

describe('aviary run', () => {
  it('streams both outputs, ends with the command, and destroys the sandbox', async () => {
    api.script = (socket) => {
      send(socket, { type: 'start', pid: 9 });
      send(socket, { type: 'stdout', data: base64('to out\n') });
      send(socket, { type: 'stderr', data: base64('to err\n') });
      send(socket, { type: 'exit', exit_code: 42 });
    };
    const { code, stdout, stderr } = await aviary('run', '--memory', '256', '-e', 'A=1', '--', 'prog', '--flag', 'x y');
    expect({ code, stdout }).toEqual({ code: 42, stdout: 'to out\n' });
    expect(stderr).toContain('to err\n');
    expect(api.frames[0]).toMatchObject({
      type: 'start',
      cmd: 'prog',
      args: ['--flag', 'x y'],
      envs: { A: '1' },
      stdin: true,
    });
    expect(JSON.parse(api.requests[0]?.body ?? '')).toEqual({ memory_mb: 256, envs: { A: '1' } });
    expect([...api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it('gives one JSON object with --json, and keeps the sandbox with --keep', async () => {
    api.script = (socket) => {
      send(socket, { type: 'stdout', data: base64('hi') });
      send(socket, { type: 'exit', exit_code: 0 });
    };
    const { code, stdout } = await aviary('run', '--json', '--keep', '--', 'echo hi | cat');
    expect(code).toBe(0);
    const [sandbox] = api.sandboxes.values();
    expect(JSON.parse(stdout)).toEqual({
      sandbox_id: sandbox?.id,
      exit_code: 0,
      signal: null,
      timed_out: false,
      duration_ms: expect.any(Number),
      stdout: 'hi',
      stderr: '',
      truncated: false,
    });
    expect(api.frames[0]).toMatchObject({ type: 'start', cmd: 'echo hi | cat', stdin: true });
    expect(sandbox?.status).toBe('running');
  });

  it('ends with 124 when the command took too long', async () => {
    api.script = (socket) => send(socket, { type: 'error', code: 'deadline_exceeded', message: 'killed after 1 s' });
    const { code, stderr } = await aviary('run', '--timeout', '1', '--', 'sleep 9');
    expect(code).toBe(124);
    expect(stderr).toContain('killed after 1 s');
    expect([...api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('stops the command and destroys the sandbox on %s', async (signal, expected) => {
    const running = Promise.withResolvers<void>();
    api.script = () => running.resolve();
    const { child, ended } = start(['run', '--', 'sleep 99']);
    await running.promise;
    child.kill(signal);
    expect((await ended).code).toBe(expected);
    expect(api.frames.at(-1)).toEqual({ type: 'stop' });
    expect([...api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it('stops the command and destroys the sandbox when nobody reads its output any more', async () => {
    api.script = (socket) => {
      // As often as it takes: the first pieces may fit into what is left of the pipe.
      const timer = setInterval(() => send(socket, { type: 'stdout', data: base64('more\n') }), 10);
      socket.on('close', () => clearInterval(timer));
    };
    const { child, ended } = start(['run', '--', 'yes']);
    child.stdout?.once('data', () => child.stdout?.destroy());
    ended.catch(() => undefined); // reads the pipe that this test closes
    const code = new Promise((resolve) => child.on('exit', resolve));
    expect(await code).toBe(141);
    expect([...api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it('destroys a sandbox that was still starting when interrupted', async () => {
    api.created = { status: 'starting', status_reason: null };
    const { child, ended } = start(['run', '--', 'true']);
    await expect.poll(() => api.requests.filter(({ method }) => method === 'GET').length).toBeGreaterThan(0);
    child.kill('SIGINT');
    expect((await ended).code).toBe(130);
    expect([...api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it('tells why a sandbox did not start', async () => {
    api.created = { status: 'error', status_reason: 'the guest did not boot' };
    const { code, stderr } = await aviary('run', '--', 'true');
    expect(code).toBe(1);
    expect(stderr).toContain('it is error: the guest did not boot');
  });
});

describe('aviary sandbox', () => {
  it('lists what is not stopped, as a table or as JSON', async () => {
    const { id } = api.addSandbox({ status: 'paused' });
    api.addSandbox({ status: 'stopped' });
    const table = await aviary('sandbox', 'list');
    expect(table).toMatchObject({ code: 0, stderr: '' });
    expect(table.stdout.split('\n')).toEqual([
      'ID                                       NAME  STATUS  TEMPLATE  VCPUS  MEMORY   CREATED',
      `${id}        paused  minimal   1      512 MiB  2026-01-01T00:00:00.000Z`,
      '',
    ]);
    const json = await aviary('sandbox', 'list', '--json', '--status', 'paused,stopped');
    expect(JSON.parse(json.stdout).items).toHaveLength(2);
  });

  it('pauses, and tells a state in which it cannot', async () => {
    const { id } = api.addSandbox();
    const paused = await aviary('sandbox', 'pause', id, '--json');
    expect(JSON.parse(paused.stdout)).toMatchObject({ id, status: 'paused' });
    const again = await aviary('sandbox', 'pause', id);
    expect(again).toMatchObject({ code: 6, stdout: '' });
    expect(again.stderr).toContain('it is paused');
    await aviary('sandbox', 'pause', api.addSandbox().id, '--force');
    expect(JSON.parse(api.requests.at(-1)?.body ?? '')).toEqual({ force: true });
  });

  it('creates with the flags given and says when it does not come to run', async () => {
    api.created = { status: 'starting', status_reason: null };
    const args = ['--vcpus', '2', '--disk', '2048', '--idle-timeout', '60', '--metadata', 'a=b=c', '--wait', '1'];
    const { code, stdout, stderr } = await aviary('sandbox', 'create', ...args);
    expect(JSON.parse(api.requests[0]?.body ?? '')).toEqual({
      vcpus: 2,
      disk_size_mb: 2_048,
      timeout_sec: 60,
      metadata: { a: 'b=c' },
    });
    expect(code).toBe(124);
    expect(stdout).toContain('starting');
    expect(stderr).toContain('it is starting, not running');
  });

  it('passes standard input on, and says how a command ended', async () => {
    const { id } = api.addSandbox();
    api.script = (socket) => {
      let input = '';
      socket.on('message', (data) => {
        const frame = JSON.parse(String(data));
        if (frame.type !== 'stdin') return;
        input += Buffer.from(frame.data ?? '', 'base64').toString();
        if (!frame.eof) return;
        send(socket, { type: 'stdout', data: base64(input) });
        send(socket, { type: 'exit', exit_code: 0 });
      });
    };
    const { child, ended } = start(['sandbox', 'exec', id, '--', 'cat'], {}, 'pipe');
    child.stdin?.end('hello\n');
    expect(await ended).toMatchObject({ code: 0, stdout: 'hello\n' });
    api.script = (socket) => send(socket, { type: 'exit', exit_code: 137, signal: 'SIGKILL' });
    // Its input stays open: the end of the command is the end of the program.
    const killed = await start(['sandbox', 'exec', id, '--', 'x'], {}, 'pipe').ended;
    expect(killed).toMatchObject({ code: 137, stderr: 'aviary: the command was ended by SIGKILL\n' });
    api.script = (socket) => {
      send(socket, { type: 'stdout', data: base64('so far\n') });
      send(socket, { type: 'exit', exit_code: 137, signal: 'SIGKILL', timed_out: true });
    };
    const late = await aviary('sandbox', 'exec', id, '--timeout', '3', '--no-stdin', '--', 'x');
    expect(late).toMatchObject({ code: 124, stdout: 'so far\n' });
    expect(late.stderr).toContain('limit of 3 s');
    const sent = api.frames.findLast(({ type }) => type === 'start');
    expect(sent).toMatchObject({ cmd: 'x', timeout_sec: 3 });
    expect(sent).not.toHaveProperty('stdin');
  });

  it('lets a command go on with --detach', async () => {
    const { id } = api.addSandbox();
    expect(await aviary('sandbox', 'exec', id, '-d', '--', 'server')).toMatchObject({ code: 0, stdout: '42\n' });
    expect(JSON.parse(api.requests.at(-1)?.body ?? '')).toEqual({ cmd: 'server', detach: true });
  });

  it('forks, executes and removes', async () => {
    const { id } = api.addSandbox();
    const forked = await aviary('sandbox', 'fork', id, '--count', '2', '--json');
    expect(JSON.parse(forked.stdout).items).toHaveLength(2);
    api.script = (socket) => send(socket, { type: 'exit', exit_code: 7 });
    expect(await aviary('sandbox', 'exec', id, '--user', 'root', '--', 'false')).toMatchObject({ code: 7 });
    expect(api.frames[0]).toMatchObject({ cmd: 'false', user: 'root' });
    expect(await aviary('sandbox', 'rm', id)).toMatchObject({ code: 0, stdout: `${id} destroyed\n` });
  });

  it('removes several: those named, those with a label, or all', async () => {
    const [a, b] = [api.addSandbox(), api.addSandbox()];
    const labelled = api.addSandbox({ metadata: { job: '42' } });
    const last = api.addSandbox();
    expect(await inProcess('rm', a.id, b.id)).toMatchObject({
      code: 0,
      stdout: `${a.id} destroyed\n${b.id} destroyed\n`,
    });
    expect(await inProcess('sandbox', 'rm', '--metadata', 'job=42')).toMatchObject({
      stdout: `${labelled.id} destroyed\n`,
    });
    expect((await inProcess('sandbox', 'rm')).stderr).toContain('needs either ids, or --all');
    expect((await inProcess('sandbox', 'rm', last.id, '--all')).code).toBe(2);
    expect(last.status).toBe('running');
    expect(await inProcess('sandbox', 'rm', '--all')).toMatchObject({ code: 0, stdout: `${last.id} destroyed\n` });
    expect((await inProcess('sandbox', 'rm', '--all')).stdout).toBe('no sandboxes\n');
  });

  it('finds a sandbox by its name, and by the beginning of either half of its id', async () => {
    const web = api.addSandbox({ metadata: { name: 'web' } });
    const { id } = api.addSandbox({ id: 'sb-01999999-0000-7000-8000-abcdef012345' });
    for (const text of ['sb-0199', '01999999', 'abcdef', 'sb-abcdef012345'])
      expect(JSON.parse((await inProcess('sandbox', 'get', text, '--json')).stdout).id).toBe(id);
    expect(JSON.parse((await inProcess('sandbox', 'pause', 'web', '--json')).stdout)).toMatchObject({
      id: web.id,
      status: 'paused',
    });
    api.addSandbox({ metadata: { name: 'web' } });
    const unclear = await inProcess('sandbox', 'get', 'web');
    expect(unclear.code).toBe(2);
    expect(unclear.stderr).toContain('web may be any of 2 sandboxes');
  });

  it('destroys what it was making when it is interrupted, as nobody has learnt its id', async () => {
    api.created = { status: 'starting', status_reason: null };
    const { child, ended } = start(['sandbox', 'create', '--name', 'web']);
    await expect.poll(() => api.requests.filter(({ method }) => method === 'GET').length).toBeGreaterThan(0);
    child.kill('SIGINT');
    expect((await ended).code).toBe(130);
    expect([...api.sandboxes.values()]).toMatchObject([{ status: 'stopped', metadata: { name: 'web' } }]);
  });
});

describe('aviary template', () => {
  it('lists what can be started from, and deletes snapshots', async () => {
    const sizes = { memory_mb: 512, disk_size_mb: 5_120, created_at: '2026-01-01T00:00:00.000Z' };
    for (const name of ['minimal', 'after-install']) api.snapshots.set(name, { name, status: 'ready', ...sizes });
    expect((await inProcess('template', 'ls')).stdout).toContain('after-install  ready   512 MiB  5120 MiB');
    expect(await inProcess('template', 'rm', 'after-install')).toMatchObject({ stdout: 'after-install deleted\n' });
    expect((await inProcess('template', 'rm', 'after-install')).code).toBe(3);
  });
});

describe('aviary logs', () => {
  it('shows the last lines of a service, readable or as they are', async () => {
    const line = JSON.stringify({ level: 40, time: 1, name: 'host-agent', msg: 'slow disk', ms: 12 });
    using logs = new ServiceLogs(directory);
    logs.add('host-agent', 'first');
    logs.add('host-agent', line);
    logs.add('control-plane', 'elsewhere');
    expect((await inProcess('logs', 'host-agent', '-n', '1')).stdout).toBe('host-agent    | warn slow disk ms=12\n');
    expect(
      (await inProcess('logs', '--json')).stdout
        .trim()
        .split('\n')
        .map((one) => JSON.parse(one)),
    ).toEqual([
      { service: 'control-plane', msg: 'elsewhere' },
      { service: 'host-agent', msg: 'first' },
      { service: 'host-agent', ...JSON.parse(line) },
    ]);
    // Both together in the order of their times; what has none follows what it came after.
    const at = (time: number, msg: string) => JSON.stringify({ level: 30, time, msg });
    logs.add('control-plane', at(5, 'later'));
    logs.add('control-plane', 'a stack');
    logs.add('host-agent', at(3, 'between'));
    expect((await inProcess('logs', '-n', '3')).stdout).toBe(
      'host-agent    | info between\ncontrol-plane | info later\ncontrol-plane | a stack\n',
    );
    expect((await inProcess('logs', 'frobnicator')).stderr).toContain('there are control-plane and host-agent');
  });

  it('goes on with what is written from then on', async () => {
    using logs = new ServiceLogs(directory, { maxBytes: 20 });
    logs.add('host-agent', 'before');
    const { child, ended } = start(['logs', 'host-agent', '-f']);
    let seen = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      seen += text;
    });
    await expect.poll(() => seen).toContain('before');
    logs.add('host-agent', 'and after that');
    logs.add('host-agent', 'in a new file');
    await expect.poll(() => seen).toContain('in a new file');
    child.kill('SIGTERM');
    await ended;
  });
});

describe('aviary files', () => {
  it('carries bytes there and back unchanged', async () => {
    const { id } = api.addSandbox();
    const data = Buffer.from(Array.from({ length: 70_000 }, (_, index) => (index * 7) % 256));
    const source = path.join(directory, 'source.bin');
    await writeFile(source, data);
    const put = await aviary('files', 'put', id, source, '/tmp/');
    expect(put).toMatchObject({ code: 0, stdout: '/tmp/source.bin 70000 bytes\n' });
    const target = path.join(directory, 'target.bin');
    expect(await aviary('files', 'get', id, '/tmp/source.bin', target)).toMatchObject({ code: 0 });
    expect(Buffer.compare(await readFile(target), data)).toBe(0);
    const json = await aviary('files', 'get', id, '/tmp/source.bin', '--json');
    expect(JSON.parse(json.stdout).content_base64).toBe(data.toString('base64'));
  });
});

describe('what goes wrong', () => {
  it('is told with a code of its own, and with what to do', async () => {
    const absentId = 'sb-01999999-0000-7000-8000-000000000000';
    const missing = await aviary('sandbox', 'get', absentId);
    expect(missing).toMatchObject({ code: 3, stdout: '' });
    expect(missing.stderr).toBe(`aviary: there is no sandbox ${absentId}\n  request id: req-7\n`);
    expect((await inProcess('sandbox', 'get', 'sb-none')).stderr).toContain("'aviary sandbox list' shows yours");
    const refused = await start(['sandbox', 'list'], { AVIARY_API_KEY: 'avy_wrong' }).ended;
    expect(refused.code).toBe(5);
    expect(refused.stderr).toContain('check AVIARY_API_KEY');
    const absent = await start(['sandbox', 'list'], { AVIARY_API_URL: 'http://127.0.0.1:1' }).ended;
    expect(absent.code).toBe(4);
    expect(absent.stderr).toContain("'aviary up'");
    const keyless = await start(['sandbox', 'list'], { AVIARY_API_KEY: '' }).ended;
    expect(keyless.code).toBe(5);
    expect(keyless.stderr).toContain('set AVIARY_API_KEY');
  });

  it('speaks of flags, not of the fields that they set', async () => {
    api.refuseCreate = { code: 'invalid_request', message: 'memory_mb must be at least 256' };
    expect((await inProcess('sandbox', 'create', '--memory', '1')).stderr).toContain('--memory must be at least 256');
    api.refuseCreate = { code: 'invalid_request', message: 'body/vcpus must be at most 32' };
    expect((await inProcess('sandbox', 'create', '--vcpus', '99')).stderr).toContain(
      'aviary: --vcpus must be at most 32',
    );
    api.refuseCreate = { code: 'invalid_request', message: 'the vcpus are too many' };
    expect((await inProcess('sandbox', 'create')).stderr).toContain('the vcpus are too many');
  });

  it('is JSON with --json', async () => {
    const absentId = 'sb-01999999-0000-7000-8000-000000000000';
    const { code, stdout, stderr } = await aviary('sandbox', 'get', absentId, '--json');
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'not_found', message: `there is no sandbox ${absentId}`, request_id: 'req-7' },
    });
  });

  it.each([
    [['frob'], 'there is no command "frob"'],
    [['sandbax', 'create'], "did you mean 'aviary sandbox create'?"],
    [['doctr'], "did you mean 'aviary doctor'?"],
    [['sandbox'], "'aviary sandbox' needs one of: create, list"],
    [['sandbox', 'crate'], 'there is no command "sandbox crate"; did you mean \'aviary sandbox create\'?'],
    [['sandbox', 'exce', 'x', '--', 'ls'], "did you mean 'aviary sandbox exec'?"],
    [['sandbox', 'frob'], "'aviary sandbox' has create, list"],
    [['snapshot', 'x'], 'did you mean'],
    [['generations', 'x'], "did you mean 'aviary sandbox generations'?"],
    [['help', 'doctr'], "did you mean 'aviary doctor'?"],
    [['help', 'sandbox', 'crate'], "did you mean 'aviary sandbox create'?"],
    [['sandbox', 'create', '--memry', '1'], 'did you mean --memory?'],
    [['sandbox', 'get'], 'needs ID'],
    [['sandbox', 'get', 'a', 'b'], 'does not know what to do with "b"'],
    [['sandbox', 'create', '--vcpus', '0'], '--vcpus must be a whole number of at least 1'],
    [['sandbox', 'create', '--frob'], "there is no flag --frob; 'aviary sandbox create --help' lists them"],
    [['sandbox', 'create', '-x'], 'there is no flag -x'],
    [['sandbox', 'create', '--memory', '1g'], '--memory must be a whole number of MiB, at least 1, not "1g"'],
    [['sandbox', 'create', '--memory'], '--memory needs a value: memory'],
    [['sandbox', 'create', '--name', '--json'], 'one that begins with -- is given as --name=--json'],
    [['sandbox', 'create', '--json=yes'], '--json takes no value'],
    [['run', '--timeout', '-1', '--', 'ls'], '--timeout must be a whole number of seconds, at least 0, not "-1"'],
    [['run', 'ls', '-la'], "put the guest's command after --"],
    [['sandbox', 'list', '--status', 'sleepy'], '--status must be one of'],
    [['sandbox', 'list', '--', 'x'], 'takes nothing after --'],
    [['run', 'ls'], "put the guest's command after --"],
    [['run', '-e', 'NOVALUE', '--', 'ls'], '--env must look like KEY=VALUE'],
  ])('%j is a usage error', async (args, message) => {
    const { code, stdout, stderr } = await inProcess(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
  });
});

describe('help and version', () => {
  it('needs neither API nor key', async () => {
    const env = { AVIARY_API_URL: 'http://127.0.0.1:1', AVIARY_API_KEY: '' };
    const overview = await start(['--help'], env).ended;
    expect(overview).toMatchObject({ code: 0, stderr: '' });
    expect(overview.stdout).toContain('sandbox rewind');
    const one = await start(['run', '--help'], env).ended;
    expect(one.stdout).toContain('Usage: aviary run [FLAGS] -- COMMAND');
    const version = await start(['version', '--json'], env).ended;
    expect(JSON.parse(version.stdout)).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      node: process.version,
    });
  });

  it.each([[['sandbox', '--help']], [['sandbox', '-h']], [['sandbox', 'help']], [['help', 'sandbox']]])(
    '%j shows the commands of a noun',
    async (args) => {
      const { code, stdout, stderr } = await inProcess(...args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain('sandbox rewind');
      expect(stdout).not.toContain('doctor');
    },
  );

  it('gives --json and -v alone what they ask for', async () => {
    expect(JSON.parse((await inProcess('--json')).stdout)).toContainEqual(expect.objectContaining({ name: 'up' }));
    expect((await inProcess('-v')).stdout).toMatch(/^aviary \d/);
  });

  it("leaves the guest's own flags alone", async () => {
    await aviary('run', '--', 'prog', '--help', '--json');
    expect(api.frames[0]).toMatchObject({ cmd: 'prog', args: ['--help', '--json'] });
  });
});
