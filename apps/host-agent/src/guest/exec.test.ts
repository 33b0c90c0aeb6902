import { Commands, type RunRequest } from '@aviary/proto/guestagent';
import { Process } from '@aviary/proto/process';
import { createClient, createRouterTransport, type ServiceImpl } from '@connectrpc/connect';
import { describe, expect, it } from 'vitest';
import { AttachedCommands } from './attached-commands.ts';
import { execBuffered, execStream } from './exec.ts';

type Run = ServiceImpl<typeof Commands>['run'];

const command = { cmd: 'x', args: [], envs: {}, user: 'user', timeoutSec: 5 };
const waits = { startMs: 20, silenceMs: 20 };
const start = { event: { case: 'start', value: { pid: 7 } } } as const;
const end = { event: { case: 'end', value: { exitCode: 0 } } } as const;

/** A guest whose commands do what `run` does, and which takes input. */
function guestThat(run: Run) {
  const inputs: string[] = [];
  const transport = createRouterTransport((router) => {
    router.service(Commands, { run });
    router.service(Process, {
      sendInput: async ({ input }) => {
        if (input?.input.case === 'stdin') inputs.push(Buffer.from(input.input.value).toString());
        return {};
      },
      closeStdin: async () => {
        inputs.push('<eof>');
        return {};
      },
    });
  });
  const guest = {
    attached: new AttachedCommands(),
    commands: createClient(Commands, transport),
    processes: createClient(Process, transport),
  };
  return { guest, inputs };
}

const never = (signal: AbortSignal) =>
  new Promise<never>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

describe('a guest that hangs', () => {
  it('is said not to have started a command, whatever the command’s limit', async () => {
    // biome-ignore lint/correctness/useYield: it hangs before it says anything.
    const { guest } = guestThat(async function* (_request, { signal }) {
      await never(signal);
    });
    await expect(execBuffered(guest, { ...command, waits })).rejects.toMatchObject({
      code: 'guest_unavailable',
      message: expect.stringContaining('was not started'),
    });
  });

  it('is told from a command that is silent', async () => {
    const { guest } = guestThat(async function* (_request, { signal }) {
      yield start;
      yield { event: { case: 'keepalive', value: {} } };
      await never(signal);
    });
    await expect(Array.fromAsync(execStream(guest, { ...command, waits }))).rejects.toMatchObject({
      code: 'guest_unavailable',
      message: expect.stringContaining('has not answered'),
    });
  });
});

describe('a command that is followed', () => {
  it('ends with its sandbox’s run, and its call with it', async () => {
    let isEnded = false;
    const { guest } = guestThat(async function* (_request, { signal }) {
      signal.addEventListener('abort', () => {
        isEnded = true;
      });
      yield start;
      await never(signal);
    });
    const events = execStream(guest, command);
    expect(await events.next()).toMatchObject({ value: { kind: 'start', pid: 7 } });
    guest.attached.endAll('paused');
    await expect(events.next()).rejects.toMatchObject({ code: 'invalid_state', details: { command: 'stopped' } });
    await expect.poll(() => isEnded).toBe(true);
  });

  it('is given its input beside its output, and only as much is kept as may be', async () => {
    let request: RunRequest | undefined;
    const { guest, inputs } = guestThat(async function* (asked) {
      request = asked;
      yield start;
      yield { event: { case: 'stdout', value: Buffer.from('out') } };
      yield end;
    });
    const result = await execBuffered(guest, { ...command, stdin: Buffer.from('in') });
    expect(result).toMatchObject({ pid: 7, end: { exitCode: 0 } });
    expect(result.stdout.toString()).toBe('out');
    expect(request).toMatchObject({ stdin: true, detach: false, timeoutMs: 5_000, maxOutputBytes: 8_388_608n });
    await expect.poll(() => inputs).toEqual(['in', '<eof>']);
  });

  it('is left alone after its start when it is detached', async () => {
    const { guest } = guestThat(async function* (_request, { signal }) {
      yield start;
      await never(signal);
    });
    expect(await execBuffered(guest, { ...command, isDetached: true })).toMatchObject({ pid: 7 });
  });
});
