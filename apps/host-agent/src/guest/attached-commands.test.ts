import { expect, it } from 'vitest';
import { AttachedCommands } from './attached-commands.ts';

it('ends what is followed when the run ends, and says what became of it', () => {
  const commands = new AttachedCommands();
  using owned = commands.add({ isDetached: false });
  using detached = commands.add({ isDetached: true });
  commands.add({ isDetached: false })[Symbol.dispose]();
  commands.endAll('paused');
  expect([owned.signal.aborted, detached.signal.aborted]).toEqual([true, true]);
  expect(owned.reason).toMatchObject({ code: 'invalid_state', details: { state: 'paused', command: 'stopped' } });
  expect(detached.reason).toMatchObject({ code: 'invalid_state', details: { state: 'paused', command: 'went_on' } });
});

it('keeps the first reason', () => {
  const commands = new AttachedCommands();
  const caller = new AbortController();
  using command = commands.add({ isDetached: false, signal: caller.signal });
  caller.abort();
  commands.endAll('deleted');
  expect(command.reason).toMatchObject({ code: 'cancelled', message: expect.stringContaining('was stopped') });
});

it('lets go of the caller and of the command', () => {
  const commands = new AttachedCommands();
  const caller = new AbortController();
  const command = commands.add({ isDetached: false, signal: caller.signal });
  command[Symbol.dispose]();
  caller.abort();
  commands.endAll('lost');
  expect(command.reason).toBeUndefined();
  expect(command.signal.aborted).toBe(true);
});
