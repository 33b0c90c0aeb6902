import { waitFor } from '@aviary/service-kit';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
let id: string;
const endless = () => ({ isEndless: true });
let usualExec: TestPlatform['agent']['sandboxes']['exec'];

beforeAll(async () => {
  platform = await startTestPlatform();
  usualExec = platform.agent.sandboxes.exec;
  const created = await platform.call('POST', '/v1/sandboxes', { body: {}, headers: { prefer: 'wait=20' } });
  id = created.body.id;
});
afterAll(() => platform?.[Symbol.asyncDispose]());
afterEach(() => {
  platform.agent.sandboxes.exec = usualExec;
});

const commands = () => platform.agent.sandboxes.commands;
const exec = (body: object, headers: Record<string, string> = {}) =>
  platform.call('POST', `/v1/sandboxes/${id}/exec`, { body, headers });
const running = () =>
  waitFor({ what: 'a running command', timeoutMs: 5_000 }, () => commands().pids.length > 0 || undefined);
const noneRunning = () =>
  waitFor({ what: 'no running command', timeoutMs: 5_000 }, () => commands().pids.length === 0 || undefined);

type Frame = { type: string; [field: string]: unknown };

/** A stream that frames are sent on when its own have come. */
class Stream implements AsyncDisposable {
  readonly socket: WebSocket;
  readonly frames: Frame[] = [];
  readonly closed: Promise<number>;

  constructor() {
    this.socket = new WebSocket(`${platform.controlPlane.url.replace('http', 'ws')}/v1/sandboxes/${id}/exec/stream`, {
      headers: { 'x-api-key': platform.apiKey },
    });
    this.socket.on('message', (data) => this.frames.push(JSON.parse(String(data))));
    this.closed = new Promise((resolve) => this.socket.on('close', resolve));
  }

  async send(frame: object | string): Promise<void> {
    if (this.socket.readyState === WebSocket.CONNECTING)
      await new Promise((resolve) => this.socket.once('open', resolve));
    this.socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  }

  next(type: string): Promise<Frame> {
    return waitFor({ what: `a frame ${type}`, timeoutMs: 5_000 }, () => {
      const at = this.frames.findIndex((frame) => frame.type === type);
      return at < 0 ? undefined : this.frames.splice(at, 1)[0];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.terminate();
    await this.closed;
  }
}

describe('a command whose client leaves', () => {
  test('ends with a request that is broken off', async () => {
    platform.agent.sandboxes.exec = endless;
    const gone = new AbortController();
    const call = fetch(`${platform.controlPlane.url}/v1/sandboxes/${id}/exec`, {
      method: 'POST',
      headers: { 'x-api-key': platform.apiKey, 'content-type': 'application/json' },
      body: JSON.stringify({ cmd: 'sleep 777', timeout_sec: 0 }),
      signal: gone.signal,
    });
    await running();
    gone.abort();
    await expect(call).rejects.toThrow();
    await noneRunning();
    expect(commands().abandoned).toHaveLength(1);
  });

  test.each(['terminate', 'close'] as const)('ends with a socket on %s', async (way) => {
    platform.agent.sandboxes.exec = endless;
    const before = commands().abandoned.length;
    await using stream = new Stream();
    await stream.send({ type: 'start', cmd: 'sleep 777' });
    await stream.next('start');
    stream.socket[way]();
    await noneRunning();
    expect(commands().abandoned).toHaveLength(before + 1);
  });

  test('goes on when it was detached, and is ended by a stop', async () => {
    platform.agent.sandboxes.exec = endless;
    const { status, body } = await exec({ cmd: 'server', detach: true });
    expect([status, body]).toEqual([202, { sandbox_id: id, cmd: 'server', pid: 42 }]);
    expect(commands().pids).toEqual([42]);
    commands().signal(42, 9);
    await using stream = new Stream();
    await stream.send({ type: 'start', cmd: 'server', detach: true });
    await stream.next('start');
    stream.socket.close();
    await stream.closed;
    expect(commands().pids).toHaveLength(1);
    await using other = new Stream();
    await other.send({ type: 'start', cmd: 'server', detach: true });
    await other.next('start');
    await other.send({ type: 'stop' });
    expect(await other.next('exit')).toMatchObject({ signal: 'SIGKILL', stopped: true });
    for (const pid of commands().pids) commands().signal(pid, 9);
  });

  test('goes on for the repeat of a request with a key', async () => {
    platform.agent.sandboxes.exec = endless;
    const gone = new AbortController();
    const request = {
      method: 'POST',
      headers: { 'x-api-key': platform.apiKey, 'content-type': 'application/json', 'idempotency-key': 'again' },
      body: JSON.stringify({ cmd: 'make' }),
    };
    const url = `${platform.controlPlane.url}/v1/sandboxes/${id}/exec`;
    const call = fetch(url, { ...request, signal: gone.signal });
    await running();
    gone.abort();
    await expect(call).rejects.toThrow();
    const [pid = 0] = commands().pids;
    commands().signal(pid, 15);
    const repeat = await waitFor({ what: 'the kept answer', timeoutMs: 5_000 }, async () => {
      const response = await fetch(url, request);
      return response.status === 200 ? response : undefined;
    });
    expect(await repeat.json()).toMatchObject({ signal: 'SIGTERM', exit_code: 143 });
    expect(repeat.headers.get('idempotency-replayed')).toBe('true');
  });
});

describe('a command that cannot be run as it was asked for', () => {
  const envs = Object.fromEntries(['A', 'B'].map((name) => [name, 'x'.repeat(40_000)]));

  test.each([
    ['standard input that is not base64', { stdin: 'aGk!', stdin_encoding: 'base64' }, 'stdin'],
    ['standard input with half a byte', { stdin: 'a', stdin_encoding: 'base64' }, 'stdin'],
    ['an environment that is too large', { envs }, 'envs'],
  ])('is refused for %s', async (_what, fields, field) => {
    const { status, body } = await exec({ cmd: 'cat', ...fields });
    expect([status, body.error]).toEqual([400, expect.objectContaining({ details: { field } })]);
  });

  test('is refused over a stream as well, and a frame that is not base64 is left out', async () => {
    await using large = new Stream();
    await large.send({ type: 'start', cmd: 'cat', envs });
    expect(await large.next('error')).toMatchObject({ fatal: true, details: { field: 'envs' } });
    await using stream = new Stream();
    await stream.send({ type: 'start', cmd: 'cat', stdin: true });
    await stream.send({ type: 'stdin', data: 'a' });
    expect(await stream.next('error')).toMatchObject({ code: 'invalid_request', fatal: false });
    await stream.send({ type: 'stdin', text: 'on', eof: true });
    expect(await stream.next('exit')).toMatchObject({ exit_code: 0 });
  });
});

describe('the answer', () => {
  test('has the output so far of a command that ran into its limit', async () => {
    platform.agent.sandboxes.exec = () => ({
      stdout: Buffer.from('so far'),
      exitCode: 137,
      end: { signal: 'SIGKILL', timedOut: true, droppedStderrBytes: 5n },
    });
    expect((await exec({ cmd: 'x', timeout_sec: 1 })).body).toMatchObject({
      ...{ stdout: 'so far', exit_code: 137, signal: 'SIGKILL', timed_out: true },
      ...{ truncated: true, dropped_stdout_bytes: 0, dropped_stderr_bytes: 5 },
    });
  });

  test('is of a command that was given its input, as text or bytes', async () => {
    platform.agent.sandboxes.exec = () => ({ isEcho: true });
    expect((await exec({ cmd: 'cat', stdin: 'ä' })).body.stdout).toBe('ä');
    expect((await exec({ cmd: 'cat', stdin: '/w==', stdin_encoding: 'base64' })).body).toMatchObject({
      ...{ stdout: '/w==', encoding: 'base64' },
    });
  });

  test('and the use are shown by the sandbox', async () => {
    const before = Date.now();
    await exec({ cmd: 'true' });
    const { body } = await platform.call('GET', `/v1/sandboxes/${id}`);
    expect(body.last_activity).toBe('exec');
    expect(Date.parse(body.last_active_at)).toBeGreaterThan(before - 5_000);
  });
});

test('an impossible variable is refused by name', async () => {
  const { status, body } = await exec({ cmd: 'true', envs: { 'a=b': '1' } });
  expect([status, body.error.code, body.error.message]).toEqual([
    ...[400, 'invalid_request', expect.stringContaining('a=b')],
  ]);
});

describe('frames of the stream', () => {
  test('feed standard input in order, and tell what was taken', async () => {
    platform.agent.sandboxes.exec = () => ({ isEcho: true });
    await using stream = new Stream();
    await stream.send({ type: 'start', cmd: 'cat', stdin: true });
    await stream.send({ type: 'stdin', text: 'one ' });
    await stream.send({ type: 'stdin', data: Buffer.from('two').toString('base64') });
    await stream.send({ type: 'stdin', eof: true });
    await stream.closed;
    const output = stream.frames.filter(({ type }) => type === 'stdout').map(({ data }) => data);
    expect(Buffer.concat(output.map((data) => Buffer.from(String(data), 'base64'))).toString()).toBe('one two');
    const taken = stream.frames
      .filter(({ type }) => type === 'stdin')
      .map(({ taken_bytes, open }) => [taken_bytes, open]);
    expect(taken.slice(0, 2)).toEqual([
      [4, true],
      [7, true],
    ]);
    expect(stream.frames.at(-1)).toMatchObject({ type: 'exit', exit_code: 0 });
  });

  test('of output are no more on their way than the client has room for', async () => {
    platform.agent.sandboxes.exec = () => ({ isEcho: true });
    await using stream = new Stream();
    const outputs = () => stream.frames.filter(({ type }) => type === 'stdout').length;
    await stream.send({ type: 'start', cmd: 'cat', stdin: true, output_window: 2 });
    for (const text of ['one', 'two', 'three', 'four']) {
      await stream.send({ type: 'stdin', text });
      await stream.next('stdin');
    }
    await stream.send({ type: 'ping' });
    await stream.next('pong');
    expect(outputs()).toBe(2);
    await stream.send({ type: 'output', taken_frames: 1 });
    await waitFor({ what: 'one more frame', timeoutMs: 5_000 }, () => outputs() === 3 || undefined);
    await stream.send({ type: 'ping' });
    await stream.next('pong');
    expect(outputs()).toBe(3);
    await stream.send({ type: 'output', taken_frames: 3 });
    await stream.send({ type: 'stdin', eof: true });
    await stream.next('exit');
    expect(outputs()).toBe(4);
  });

  test('that nobody takes keep no command alive when its client leaves', async () => {
    platform.agent.sandboxes.exec = () => ({ isEcho: true });
    await using stream = new Stream();
    await stream.send({ type: 'start', cmd: 'cat', stdin: true, output_window: 1 });
    await stream.send({ type: 'stdin', text: 'one' });
    await stream.send({ type: 'stdin', text: 'two' });
    await stream.next('stdout');
    stream.socket.close();
    await noneRunning();
  });

  test('that are unknown, malformed or out of place are refused, and the command goes on', async () => {
    platform.agent.sandboxes.exec = endless;
    await using stream = new Stream();
    await stream.send({ type: 'start', cmd: 'sleep 777' });
    await stream.next('start');
    const wrong = [
      'xx',
      { type: 'what' },
      { type: 'start', cmd: 'again' },
      { type: 'stdin', text: 'x' },
      { type: 'signal', signal: 'SIGFOO' },
    ];
    for (const frame of wrong) {
      await stream.send(frame);
      expect(await stream.next('error')).toMatchObject({ fatal: false });
    }
    expect(commands().pids).toHaveLength(1);
    await stream.send({ type: 'signal', signal: 'SIGTERM' });
    expect(await stream.next('exit')).toMatchObject({ exit_code: 143, signal: 'SIGTERM', stopped: false });
    expect(await stream.closed).toBe(1000);
  });

  test('before the start close the socket with 1008', async () => {
    await using stream = new Stream();
    await stream.send({ type: 'stop' });
    expect(await stream.next('error')).toMatchObject({ code: 'invalid_request', fatal: true });
    expect(await stream.closed).toBe(1008);
  });
});
