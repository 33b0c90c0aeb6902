import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { send } from '../fake-api.ts';
import { base64, TestCli } from '../test-cli.ts';

let cli: TestCli;
beforeEach(async () => {
  cli = await TestCli.open();
});
afterEach(() => cli[Symbol.asyncDispose]());

describe('aviary sandbox', () => {
  it('lists what is not stopped, as a table or as JSON', async () => {
    const { id } = cli.api.addSandbox({ status: 'paused' });
    cli.api.addSandbox({ status: 'stopped' });
    const table = await cli.run('sandbox', 'list');
    expect(table).toMatchObject({ code: 0, stderr: '' });
    expect(table.stdout.split('\n')).toEqual([
      'ID                                       NAME  STATUS  TEMPLATE  VCPUS  MEMORY   CREATED',
      `${id}        paused  minimal   1      512 MiB  2026-01-01T00:00:00.000Z`,
      '',
    ]);
    const json = await cli.run('sandbox', 'list', '--json', '--status', 'paused,stopped');
    expect(JSON.parse(json.stdout).items).toHaveLength(2);
  });

  it('pauses, and tells a state in which it cannot', async () => {
    const { id } = cli.api.addSandbox();
    const paused = await cli.run('sandbox', 'pause', id, '--json');
    expect(JSON.parse(paused.stdout)).toMatchObject({ id, status: 'paused' });
    const again = await cli.run('sandbox', 'pause', id);
    expect(again).toMatchObject({ code: 6, stdout: '' });
    expect(again.stderr).toContain('it is paused');
    await cli.run('sandbox', 'pause', cli.api.addSandbox().id, '--force');
    expect(JSON.parse(cli.api.requests.at(-1)?.body ?? '')).toEqual({ force: true });
  });

  it('creates with the flags given and says when it does not come to run', async () => {
    cli.api.created = { status: 'starting', status_reason: null };
    const args = ['--vcpus', '2', '--disk', '2048', '--idle-timeout', '60', '--metadata', 'a=b=c', '--wait', '1'];
    const { code, stdout, stderr } = await cli.run('sandbox', 'create', ...args);
    expect(JSON.parse(cli.api.requests[0]?.body ?? '')).toEqual({
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
    const { id } = cli.api.addSandbox();
    cli.api.script = (socket) => {
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
    const { child, ended } = cli.start(['sandbox', 'exec', id, '--', 'cat'], {}, 'pipe');
    child.stdin?.end('hello\n');
    expect(await ended).toMatchObject({ code: 0, stdout: 'hello\n' });
    cli.api.script = (socket) => send(socket, { type: 'exit', exit_code: 137, signal: 'SIGKILL' });
    // Its input stays open: the end of the command is the end of the program.
    const killed = await cli.start(['sandbox', 'exec', id, '--', 'x'], {}, 'pipe').ended;
    expect(killed).toMatchObject({ code: 137, stderr: 'aviary: the command was ended by SIGKILL\n' });
    cli.api.script = (socket) => {
      send(socket, { type: 'stdout', data: base64('so far\n') });
      send(socket, { type: 'exit', exit_code: 137, signal: 'SIGKILL', timed_out: true });
    };
    const late = await cli.run('sandbox', 'exec', id, '--timeout', '3', '--no-stdin', '--', 'x');
    expect(late).toMatchObject({ code: 124, stdout: 'so far\n' });
    expect(late.stderr).toContain('limit of 3 s');
    const sent = cli.api.frames.findLast(({ type }) => type === 'start');
    expect(sent).toMatchObject({ cmd: 'x', timeout_sec: 3 });
    expect(sent).not.toHaveProperty('stdin');
  });

  it('lets a command go on with --detach', async () => {
    const { id } = cli.api.addSandbox();
    expect(await cli.run('sandbox', 'exec', id, '-d', '--', 'server')).toMatchObject({ code: 0, stdout: '42\n' });
    expect(JSON.parse(cli.api.requests.at(-1)?.body ?? '')).toEqual({ cmd: 'server', detach: true });
  });

  it('forks, executes and removes', async () => {
    const { id } = cli.api.addSandbox();
    const forked = await cli.run('sandbox', 'fork', id, '--count', '2', '--json');
    expect(JSON.parse(forked.stdout).items).toHaveLength(2);
    cli.api.script = (socket) => send(socket, { type: 'exit', exit_code: 7 });
    expect(await cli.run('sandbox', 'exec', id, '--user', 'root', '--', 'false')).toMatchObject({ code: 7 });
    expect(cli.api.frames[0]).toMatchObject({ cmd: 'false', user: 'root' });
    expect(await cli.run('sandbox', 'rm', id)).toMatchObject({ code: 0, stdout: `${id} destroyed\n` });
  });

  it('removes several: those named, those with a label, or all', async () => {
    const [a, b] = [cli.api.addSandbox(), cli.api.addSandbox()];
    const labelled = cli.api.addSandbox({ metadata: { job: '42' } });
    const last = cli.api.addSandbox();
    expect(await cli.run('rm', a.id, b.id)).toMatchObject({
      code: 0,
      stdout: `${a.id} destroyed\n${b.id} destroyed\n`,
    });
    expect(await cli.run('sandbox', 'rm', '--metadata', 'job=42')).toMatchObject({
      stdout: `${labelled.id} destroyed\n`,
    });
    expect((await cli.run('sandbox', 'rm')).stderr).toContain('needs either ids, or --all');
    expect((await cli.run('sandbox', 'rm', last.id, '--all')).code).toBe(2);
    expect(last.status).toBe('running');
    expect(await cli.run('sandbox', 'rm', '--all')).toMatchObject({ code: 0, stdout: `${last.id} destroyed\n` });
    expect((await cli.run('sandbox', 'rm', '--all')).stdout).toBe('no sandboxes\n');
  });

  it('finds a sandbox by its name, and by the beginning of either half of its id', async () => {
    const web = cli.api.addSandbox({ metadata: { name: 'web' } });
    const { id } = cli.api.addSandbox({ id: 'sb-01999999-0000-7000-8000-abcdef012345' });
    for (const text of ['sb-0199', '01999999', 'abcdef', 'sb-abcdef012345'])
      expect(JSON.parse((await cli.run('sandbox', 'get', text, '--json')).stdout).id).toBe(id);
    expect(JSON.parse((await cli.run('sandbox', 'pause', 'web', '--json')).stdout)).toMatchObject({
      id: web.id,
      status: 'paused',
    });
    cli.api.addSandbox({ metadata: { name: 'web' } });
    const unclear = await cli.run('sandbox', 'get', 'web');
    expect(unclear.code).toBe(2);
    expect(unclear.stderr).toContain('web may be any of 2 sandboxes');
  });

  it('refuses a name that a sandbox has which is not stopped', async () => {
    const web = cli.api.addSandbox({ status: 'paused', metadata: { name: 'web' } });
    for (const argv of [
      ['create', '--name', 'web'],
      ['create', '--metadata', 'name=web'],
      ['run', '--name', 'web', '--', 'true'],
    ]) {
      const refused = await cli.run(...argv);
      expect([refused.code, refused.stderr]).toEqual([
        6,
        expect.stringContaining(`the name web is that of sandbox ${web.id}`),
      ]);
    }
    expect(cli.api.sandboxes.size).toBe(1);
    web.status = 'stopped';
    expect((await cli.run('create', '--name', 'web')).code).toBe(0);
  });

  it('destroys what it was making when it is interrupted, as nobody has learnt its id', async () => {
    cli.api.created = { status: 'starting', status_reason: null };
    const { child, ended } = cli.start(['sandbox', 'create', '--name', 'web']);
    await expect
      .poll(() => cli.api.requests.filter(({ path }) => path.startsWith('/v1/sandboxes/sb-')).length)
      .toBeGreaterThan(0);
    child.kill('SIGINT');
    expect((await ended).code).toBe(130);
    expect([...cli.api.sandboxes.values()]).toMatchObject([{ status: 'stopped', metadata: { name: 'web' } }]);
  });
});
