import { AppError } from '@aviary/core';
import { FaultPoints, silentLogger } from '@aviary/service-kit';
import { expect, it } from 'vitest';
import { type GuestStop, type StoppableSandbox, withStoppedGuest } from './stopped-guest.ts';

const deps = { faults: new FaultPoints(), logger: silentLogger };
const silence = () => new AppError('deadline_exceeded', 'POST /freeze did not finish within 10000 ms');

/** A sandbox whose calls are noted, and fail as told. */
function fakeSandbox(failures: { freeze?: unknown; pause?: unknown } = {}): {
  calls: string[];
  sandbox: StoppableSandbox;
} {
  const calls: string[] = [];
  const call = (name: 'freeze' | 'thaw' | 'pause' | 'resume' | 'kill') => async () => {
    calls.push(name);
    const failure = name === 'freeze' || name === 'pause' ? failures[name] : undefined;
    if (failure !== undefined) throw failure;
  };
  const sandbox: StoppableSandbox = {
    record: { sandboxId: 'a' as StoppableSandbox['record']['sandboxId'] },
    running: {
      vm: { isOutOfSpace: false, pause: call('pause'), resume: call('resume'), kill: call('kill') },
      guest: {
        freeze: call('freeze'),
        thaw: call('thaw'),
        closeConnections: () => undefined,
        closeIdleConnections: () => undefined,
      },
    },
  };
  return { calls, sandbox };
}

const tellStop = async (stop: GuestStop) => stop;

it('leaves a guest stopped after the work, unless it is to go on or anything fails', async () => {
  const { calls, sandbox } = fakeSandbox();
  expect(await withStoppedGuest(deps, sandbox, tellStop)).toBe('frozen');
  expect(calls).toEqual(['freeze', 'pause']);
  calls.length = 0;
  await withStoppedGuest(deps, sandbox, tellStop, { isGoingOn: true });
  expect(calls).toEqual(['freeze', 'pause', 'resume', 'thaw']);
  calls.length = 0;
  await expect(withStoppedGuest(deps, sandbox, () => Promise.reject(new Error('full')))).rejects.toThrow('full');
  expect(calls).toEqual(['freeze', 'pause', 'resume', 'thaw']);
});

it.each([
  ['does not answer', silence(), 'guest_unavailable', 'its agent does not answer'],
  ['cannot be reached', new Error('connect EHOSTUNREACH'), 'guest_unavailable', 'its agent does not answer'],
  ['refuses', new AppError('internal', 'no cgroup file system'), 'internal', 'no cgroup file system'],
])('says of a guest that %s what can be done, and lets it go on', async (_what, freeze, code, said) => {
  const { calls, sandbox } = fakeSandbox({ freeze });
  const error = await withStoppedGuest(deps, sandbox, tellStop).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code, message: expect.stringContaining(said) });
  expect(error).toMatchObject({ message: expect.stringContaining('pause with force') });
  expect(calls).toEqual(['freeze', 'resume', 'thaw']);
});

it('says of a guest that waits for space on the host that the disk is full, and leaves it alone', async () => {
  const { calls, sandbox } = fakeSandbox();
  const { vm, guest } = sandbox.running;
  const waiting: StoppableSandbox = { ...sandbox, running: { vm: { ...vm, isOutOfSpace: true }, guest } };
  await expect(withStoppedGuest(deps, waiting, tellStop)).rejects.toMatchObject({ code: 'disk_full' });
  expect(calls).toEqual([]);
  expect(await withStoppedGuest(deps, waiting, tellStop, { isForced: true })).toBe('frozen');
});

it('stops such a guest all the same when forced, and kills a VMM that does not obey either', async () => {
  const hung = fakeSandbox({ freeze: silence() });
  expect(await withStoppedGuest(deps, hung.sandbox, tellStop, { isForced: true })).toBe('halted');
  expect(hung.calls).toEqual(['freeze', 'pause']);
  const dead = fakeSandbox({ freeze: silence(), pause: silence() });
  expect(await withStoppedGuest(deps, dead.sandbox, tellStop, { isForced: true })).toBe('killed');
  expect(dead.calls).toEqual(['freeze', 'pause', 'kill']);
});
