import { describe, expect, it } from 'vitest';
import { waitFor, withDeadline } from './deadline.ts';
import { VirtualClock } from './virtual-clock.ts';

describe('withDeadline', () => {
  it('gives what the work gives', async () => {
    await expect(withDeadline({ what: 'it', timeoutMs: 5_000 }, async () => 7)).resolves.toBe(7);
    await expect(withDeadline({ what: 'it', timeoutMs: 5_000 }, () => Promise.reject(new Error('no')))).rejects.toThrow(
      'no',
    );
  });

  it('ends, names what was late, and tells the work, even when that does not listen', async () => {
    let told: AbortSignal | undefined;
    const late = withDeadline({ what: 'counting', timeoutMs: 5.25 }, (signal) => {
      told = signal;
      return new Promise(() => undefined);
    });
    await expect(late).rejects.toMatchObject({
      code: 'deadline_exceeded',
      message: 'counting did not finish within 5 ms',
    });
    expect(told?.aborted).toBe(true);
  });

  it('ends with its parent, before and while it works', async () => {
    const parent = AbortSignal.abort(new Error('stop'));
    const forever = () => new Promise<never>(() => undefined);
    await expect(withDeadline({ what: 'it', timeoutMs: 60_000, parent }, forever)).rejects.toThrow('stop');
    const controller = new AbortController();
    const waiting = withDeadline({ what: 'it', timeoutMs: 60_000, parent: controller.signal }, forever);
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
  });
});

describe('waitFor', () => {
  it('looks until there is an answer', async () => {
    const clock = new VirtualClock();
    let looks = 0;
    const answer = waitFor({ what: 'it', timeoutMs: 1_000, intervalMs: 100, clock }, () =>
      ++looks === 4 ? 'here' : false,
    );
    await clock.advance(300);
    await expect(answer).resolves.toBe('here');
    expect(looks).toBe(4);
  });

  it('looks a last time at its deadline, then names what did not happen', async () => {
    const clock = new VirtualClock();
    const looks: number[] = [];
    const answer = waitFor({ what: 'rain', timeoutMs: 250, intervalMs: 100, clock }, () => {
      looks.push(clock.now());
      return undefined;
    });
    const refused = expect(answer).rejects.toMatchObject({
      code: 'deadline_exceeded',
      message: 'rain did not happen within 250 ms',
    });
    await clock.advance(1_000);
    await refused;
    expect(looks).toEqual([0, 100, 200, 300]);
  });

  it('ends when it is called off', async () => {
    const clock = new VirtualClock();
    const controller = new AbortController();
    const answer = waitFor({ what: 'it', timeoutMs: 1_000, clock, signal: controller.signal }, () => undefined);
    controller.abort(new Error('enough'));
    await expect(answer).rejects.toThrow('enough');
    expect(clock.sleeping).toBe(0);
  });
});
