import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { send } from '../fake-api.ts';
import { base64, TestCli } from '../test-cli.ts';

let cli: TestCli;
beforeEach(async () => {
  cli = await TestCli.open();
});
afterEach(() => cli[Symbol.asyncDispose]());

describe('aviary run', () => {
  it('streams both outputs, ends with the command, and destroys the sandbox', async () => {
    cli.api.script = (socket) => {
      send(socket, { type: 'start', pid: 9 });
      send(socket, { type: 'stdout', data: base64('to out\n') });
      send(socket, { type: 'stderr', data: base64('to err\n') });
      send(socket, { type: 'exit', exit_code: 42 });
    };
    const { code, stdout, stderr } = await cli.start([
      'run',
      '--memory',
      '256',
      '-e',
      'A=1',
      '--',
      'prog',
      '--flag',
      'x y',
    ]).ended;
    expect({ code, stdout }).toEqual({ code: 42, stdout: 'to out\n' });
    expect(stderr).toContain('to err\n');
    expect(cli.api.frames[0]).toMatchObject({
      type: 'start',
      cmd: 'prog',
      args: ['--flag', 'x y'],
      envs: { A: '1' },
      stdin: true,
    });
    expect(JSON.parse(cli.api.requests[0]?.body ?? '')).toEqual({ memory_mb: 256, envs: { A: '1' } });
    expect([...cli.api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it('gives one JSON object with --json, and keeps the sandbox with --keep', async () => {
    cli.api.script = (socket) => {
      send(socket, { type: 'stdout', data: base64('hi') });
      send(socket, { type: 'exit', exit_code: 0 });
    };
    const { code, stdout } = await cli.start(['run', '--json', '--keep', '--', 'echo hi | cat']).ended;
    expect(code).toBe(0);
    const [sandbox] = cli.api.sandboxes.values();
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
    expect(cli.api.frames[0]).toMatchObject({ type: 'start', cmd: 'echo hi | cat', stdin: true });
    expect(sandbox?.status).toBe('running');
  });

  it('ends with 124 when the command took too long', async () => {
    cli.api.script = (socket) =>
      send(socket, { type: 'error', code: 'deadline_exceeded', message: 'killed after 1 s' });
    const { code, stderr } = await cli.run('run', '--timeout', '1', '--', 'sleep 9');
    expect(code).toBe(124);
    expect(stderr).toContain('killed after 1 s');
    expect([...cli.api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('stops the command and destroys the sandbox on %s', async (signal, expected) => {
    const running = Promise.withResolvers<void>();
    cli.api.script = () => running.resolve();
    const { child, ended } = cli.start(['run', '--', 'sleep 99']);
    await running.promise;
    child.kill(signal);
    expect((await ended).code).toBe(expected);
    expect(cli.api.frames.at(-1)).toEqual({ type: 'stop' });
    expect([...cli.api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it('stops the command and destroys the sandbox when nobody reads its output any more', async () => {
    cli.api.script = (socket) => {
      // As often as it takes: the first pieces may fit into what is left of the pipe.
      const timer = setInterval(() => send(socket, { type: 'stdout', data: base64('more\n') }), 10);
      socket.on('close', () => clearInterval(timer));
    };
    const { child, ended } = cli.start(['run', '--', 'yes']);
    child.stdout?.once('data', () => child.stdout?.destroy());
    ended.catch(() => undefined); // reads the pipe that this test closes
    const code = new Promise((resolve) => child.on('exit', resolve));
    expect(await code).toBe(141);
    expect([...cli.api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it('destroys a sandbox that was still starting when interrupted', async () => {
    cli.api.created = { status: 'starting', status_reason: null };
    const { child, ended } = cli.start(['run', '--', 'true']);
    await expect.poll(() => cli.api.requests.filter(({ method }) => method === 'GET').length).toBeGreaterThan(0);
    child.kill('SIGINT');
    expect((await ended).code).toBe(130);
    expect([...cli.api.sandboxes.values()].map(({ status }) => status)).toEqual(['stopped']);
  });

  it('tells why a sandbox did not start', async () => {
    cli.api.created = { status: 'error', status_reason: 'the guest did not boot' };
    const { code, stderr } = await cli.run('run', '--', 'true');
    expect(code).toBe(1);
    expect(stderr).toContain('it is error: the guest did not boot');
  });
});
