import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServiceLogs } from './platform/service-logs.ts';
import { TestCli } from './test-cli.ts';

let cli: TestCli;
beforeEach(async () => {
  cli = await TestCli.open();
});
afterEach(() => cli[Symbol.asyncDispose]());

describe('aviary template', () => {
  it('lists what can be started from, and deletes snapshots', async () => {
    const sizes = { memory_mb: 512, disk_size_mb: 5_120, created_at: '2026-01-01T00:00:00.000Z' };
    for (const name of ['minimal', 'after-install']) cli.api.snapshots.set(name, { name, status: 'ready', ...sizes });
    expect((await cli.run('template', 'ls')).stdout).toContain('after-install  ready   512 MiB  5120 MiB');
    expect(await cli.run('template', 'rm', 'after-install')).toMatchObject({ stdout: 'after-install deleted\n' });
    expect((await cli.run('template', 'rm', 'after-install')).code).toBe(3);
  });
});

describe('aviary logs', () => {
  it('shows the last lines of a service, readable or as they are', async () => {
    const line = JSON.stringify({ level: 40, time: 1, name: 'host-agent', msg: 'slow disk', ms: 12 });
    using logs = new ServiceLogs(cli.directory);
    logs.add('host-agent', 'first');
    logs.add('host-agent', line);
    logs.add('control-plane', 'elsewhere');
    expect((await cli.run('logs', 'host-agent', '-n', '1')).stdout).toBe('host-agent    | warn slow disk ms=12\n');
    expect(
      (await cli.run('logs', '--json')).stdout
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
    expect((await cli.run('logs', '-n', '3')).stdout).toBe(
      'host-agent    | info between\ncontrol-plane | info later\ncontrol-plane | a stack\n',
    );
    expect((await cli.run('logs', 'frobnicator')).stderr).toContain('there are control-plane and host-agent');
  });

  it('goes on with what is written from then on', async () => {
    using logs = new ServiceLogs(cli.directory, { maxBytes: 20 });
    logs.add('host-agent', 'before');
    const { child, ended } = cli.start(['logs', 'host-agent', '-f']);
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
    const { id } = cli.api.addSandbox();
    const data = Buffer.from(Array.from({ length: 70_000 }, (_, index) => (index * 7) % 256));
    const source = path.join(cli.directory, 'source.bin');
    await writeFile(source, data);
    const put = await cli.run('files', 'put', id, source, '/tmp/');
    expect(put).toMatchObject({ code: 0, stdout: '/tmp/source.bin 70000 bytes\n' });
    const target = path.join(cli.directory, 'target.bin');
    expect(await cli.run('files', 'get', id, '/tmp/source.bin', target)).toMatchObject({ code: 0 });
    expect(Buffer.compare(await readFile(target), data)).toBe(0);
    const json = await cli.run('files', 'get', id, '/tmp/source.bin', '--json');
    expect(JSON.parse(json.stdout).content_base64).toBe(data.toString('base64'));
  });
});

describe('what goes wrong', () => {
  it('is told with a code of its own, and with what to do', async () => {
    const absentId = 'sb-01999999-0000-7000-8000-000000000000';
    const missing = await cli.run('sandbox', 'get', absentId);
    expect(missing).toMatchObject({ code: 3, stdout: '' });
    expect(missing.stderr).toBe(`aviary: there is no sandbox ${absentId}\n  request id: req-7\n`);
    expect((await cli.run('sandbox', 'get', 'sb-none')).stderr).toContain("'aviary sandbox list' shows yours");
    const refused = await cli.start(['sandbox', 'list'], { AVIARY_API_KEY: 'avy_wrong' }).ended;
    expect(refused.code).toBe(5);
    expect(refused.stderr).toContain('check AVIARY_API_KEY');
    const absent = await cli.start(['sandbox', 'list'], { AVIARY_API_URL: 'http://127.0.0.1:1' }).ended;
    expect(absent.code).toBe(4);
    expect(absent.stderr).toContain("'aviary up'");
    const keyless = await cli.start(['sandbox', 'list'], { AVIARY_API_KEY: '' }).ended;
    expect(keyless.code).toBe(5);
    expect(keyless.stderr).toContain('set AVIARY_API_KEY');
  });

  it('speaks of flags, not of the fields that they set', async () => {
    cli.api.refuseCreate = { code: 'invalid_request', message: 'memory_mb must be at least 256' };
    expect((await cli.run('sandbox', 'create', '--memory', '1')).stderr).toContain('--memory must be at least 256');
    cli.api.refuseCreate = { code: 'invalid_request', message: 'body/vcpus must be at most 32' };
    expect((await cli.run('sandbox', 'create', '--vcpus', '99')).stderr).toContain(
      'aviary: --vcpus must be at most 32',
    );
    cli.api.refuseCreate = { code: 'invalid_request', message: 'the vcpus are too many' };
    expect((await cli.run('sandbox', 'create')).stderr).toContain('the vcpus are too many');
  });

  it('is JSON with --json', async () => {
    const absentId = 'sb-01999999-0000-7000-8000-000000000000';
    const { code, stdout, stderr } = await cli.run('sandbox', 'get', absentId, '--json');
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
    const { code, stdout, stderr } = await cli.run(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
  });
});

describe('help and version', () => {
  it('needs neither API nor key', async () => {
    const env = { AVIARY_API_URL: 'http://127.0.0.1:1', AVIARY_API_KEY: '' };
    const overview = await cli.start(['--help'], env).ended;
    expect(overview).toMatchObject({ code: 0, stderr: '' });
    expect(overview.stdout).toContain('sandbox rewind');
    const one = await cli.start(['run', '--help'], env).ended;
    expect(one.stdout).toContain('Usage: aviary run [FLAGS] -- COMMAND');
    const version = await cli.start(['version', '--json'], env).ended;
    expect(JSON.parse(version.stdout)).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      node: process.version,
    });
  });

  it.each([[['sandbox', '--help']], [['sandbox', '-h']], [['sandbox', 'help']], [['help', 'sandbox']]])(
    '%j shows the commands of a noun',
    async (args) => {
      const { code, stdout, stderr } = await cli.run(...args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain('sandbox rewind');
      expect(stdout).not.toContain('doctor');
    },
  );

  it('gives --json and -v alone what they ask for', async () => {
    expect(JSON.parse((await cli.run('--json')).stdout)).toContainEqual(expect.objectContaining({ name: 'up' }));
    expect((await cli.run('-v')).stdout).toMatch(/^aviary \d/);
  });

  it("leaves the guest's own flags alone", async () => {
    await cli.run('run', '--', 'prog', '--help', '--json');
    expect(cli.api.frames[0]).toMatchObject({ cmd: 'prog', args: ['--help', '--json'] });
  });
});
