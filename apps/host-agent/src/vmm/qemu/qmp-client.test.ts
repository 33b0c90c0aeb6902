import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { QmpClient, type QmpEvent } from './qmp-client.ts';

const greeting = `${JSON.stringify({ QMP: { version: {}, capabilities: [] } })}\r\n`;
let directory: string;
let socketPath: string;
let server: Server | undefined;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'qmp-'));
  socketPath = path.join(directory, 'qmp.sock');
});

afterEach(async () => {
  server?.close();
  server = undefined;
  await rm(directory, { recursive: true, force: true });
});

/** Listens as a VMM does: greets, and answers each command with what `answer` writes. */
async function serve(answer: (command: { execute: string; id: number }, socket: Socket) => void, hello = greeting) {
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(hello);
    socket.on('data', (data) => {
      for (const line of data.toString().trim().split('\n')) {
        const command = JSON.parse(line) as { execute: string; id: number };
        if (command.execute === 'qmp_capabilities')
          socket.write(`${JSON.stringify({ return: {}, id: command.id })}\r\n`);
        else answer(command, socket);
      }
    });
  });
  await new Promise<void>((resolve) => server?.listen(socketPath, resolve));
}

it('matches answers to commands by id and passes events on, however the bytes are cut', async () => {
  const events: QmpEvent[] = [];
  await serve(({ execute, id }, socket) => {
    const event = `${JSON.stringify({ event: 'STOP', data: { who: execute } })}\r\n`;
    const text = `${event}${JSON.stringify({ return: execute, id })}\r\n`;
    socket.write(text.slice(0, 20));
    setImmediate(() => socket.write(text.slice(20)));
  });
  const client = await QmpClient.connect(socketPath, { onEvent: (event) => events.push(event) });
  expect(await client.execute('stop')).toBe('stop');
  expect(await client.execute('cont')).toBe('cont');
  expect(events).toEqual([
    { event: 'STOP', data: { who: 'stop' } },
    { event: 'STOP', data: { who: 'cont' } },
  ]);
  client.close();
});

it('fails a command with the words of the VMM', async () => {
  await serve(({ id }, socket) =>
    socket.write(`${JSON.stringify({ error: { class: 'x', desc: 'no such drive' }, id })}\n`),
  );
  const client = await QmpClient.connect(socketPath);
  await expect(client.execute('eject')).rejects.toMatchObject({
    code: 'internal',
    message: 'the VMM refused eject: no such drive',
  });
  client.close();
});

it('gives up on a silent VMM, at its greeting and at a command', async () => {
  await serve(() => undefined);
  const client = await QmpClient.connect(socketPath);
  await expect(client.execute('stop', {}, { timeoutMs: 20 })).rejects.toMatchObject({ code: 'deadline_exceeded' });
  client.close();
  server?.close();
  await rm(socketPath, { force: true });
  await serve(() => undefined, '');
  await expect(QmpClient.connect(socketPath, { timeoutMs: 20 })).rejects.toMatchObject({ code: 'deadline_exceeded' });
});

it.each([
  ['text that is not JSON', 'nonsense\n'],
  ['a value that is no message', '[1]\n'],
  ['a message without an end', 'x'.repeat(1_100_000)],
  ['a message that is too long', `${'x'.repeat(1_100_000)}\n`],
  ['an error that belongs to no command', '{"error":{"class":"x","desc":"bad"}}\n'],
])('breaks off at %s', async (_what, text) => {
  await serve((_command, socket) => socket.write(text));
  const client = await QmpClient.connect(socketPath);
  await expect(client.execute('stop')).rejects.toMatchObject({ code: 'host_unavailable' });
  await client.closed;
  await expect(client.execute('stop')).rejects.toMatchObject({ code: 'host_unavailable' });
});

it('fails what is in flight when the VMM goes away', async () => {
  await serve((_command, socket) => socket.destroy());
  const client = await QmpClient.connect(socketPath);
  await expect(Promise.all([client.execute('a'), client.execute('b')])).rejects.toMatchObject({
    code: 'host_unavailable',
  });
  await client.closed;
});

it('says that nobody listens', async () => {
  await expect(QmpClient.connect(socketPath)).rejects.toMatchObject({ code: 'host_unavailable' });
});
