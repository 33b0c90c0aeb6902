import { newId, type SandboxId } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentHarness, startAgentHarness } from '../testing/agent-harness.ts';
import { SandboxDriver } from '../testing/sandbox-driver.ts';
import { testImages } from '../testing/test-images.ts';

let agent: AgentHarness;
let drive: SandboxDriver;
let sandboxId: SandboxId;

beforeAll(async () => {
  agent = await startAgentHarness({ imagesFrom: await testImages(), settings: { AVIARY_REAPER_INTERVAL_MS: '100' } });
  drive = new SandboxDriver(agent);
  sandboxId = await drive.create();
}, 300_000);
afterAll(() => agent?.[Symbol.asyncDispose]());

const setTimeoutSec = (timeoutSec: number) => agent.client.setTimeout({ sandboxId, timeoutSec });
const pausedEvents = () =>
  agent.controlPlane.events.filter(
    ({ event, sandbox_id }) => event === 'sandbox.auto_paused' && sandbox_id.endsWith(sandboxId),
  );

function waitPaused(): Promise<true> {
  return waitFor({ what: 'the automatic pause', timeoutMs: 30_000, intervalMs: 100 }, async () =>
    (await drive.state(sandboxId)) === 'PAUSED' ? true : undefined,
  );
}

describe('automatic pause', () => {
  it('waits for commands and for busy guests, then does what the API’s pause does', async () => {
    await drive.sh(sandboxId, 'echo kept > /dev/shm/mark');
    await setTimeoutSec(1);
    // Longer than the limit: a command that runs is use.
    await drive.sh(sandboxId, 'sleep 3');
    expect(await drive.state(sandboxId)).toBe('RUNNING');
    await drive.sh(sandboxId, 'timeout 4 sh -c "while :; do :; done" >/dev/null 2>&1 &');
    await waitFor({ what: 'the note of a busy guest', timeoutMs: 10_000, intervalMs: 50 }, async () => {
      const { lastActivity, state } = await drive.info(sandboxId);
      expect(state).toBe(2);
      return lastActivity === 'cpu';
    });
    await waitPaused();
    await waitFor({ what: 'the event', timeoutMs: 10_000 }, () => pausedEvents().length === 1);
    expect((await drive.generations(sandboxId)).at(-1)).toMatchObject({
      cause: 'auto_pause',
      hasMemory: true,
      current: true,
    });
    await drive.expectOnly(0, 1);
    const resumed = await drive.resume(sandboxId, { timeoutSec: 0 });
    expect(resumed?.startPath).toBe('resume');
    expect(await drive.sh(sandboxId, 'cat /dev/shm/mark')).toBe('kept');
  });
});

/** The next number of a fixed sequence (mulberry32), so that a failure can be repeated. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

describe('commands that race', () => {
  const seed = Number(process.env['AVIARY_TEST_SEED'] ?? 20_260_101);

  it(`end in a legal state with nothing lost, in random orders (AVIARY_TEST_SEED=${seed})`, async () => {
    const below = seeded(seed);
    let acknowledged = 0;
    for (let round = 0; round < 8; round++) {
      if ((await drive.state(sandboxId)) === 'PAUSED' && below(3) > 0) await drive.resume(sandboxId);
      const value = round + 1;
      const commands = {
        pause: () => drive.pause(sandboxId),
        resume: () => drive.resume(sandboxId),
        exec: async () => {
          await drive.sh(sandboxId, `echo ${value} >> /dev/shm/log; echo ${value} >> /root/log`);
          acknowledged = value;
        },
        extend: () => setTimeoutSec(below(2) * 600),
        ping: () => agent.client.pingSandbox({ sandboxId }),
      };
      const names = Object.keys(commands) as (keyof typeof commands)[];
      const chosen = Array.from({ length: 4 }, () => names[below(names.length)] ?? 'exec');
      const outcomes = await Promise.all(
        chosen.map(async (name) => {
          const code = await commands[name]().then(
            () => 'ok',
            (error: unknown) => drive.refusal(Promise.reject(error)).then((refused) => refused.code),
          );
          return { name, code };
        }),
      );
      const what = `round ${round}: ${JSON.stringify(outcomes)}`;
      // A command that lost the race is refused with the state; a process that a pause cut says that its guest is away.
      for (const { code } of outcomes) expect(['ok', 'invalid_state', 'guest_unavailable'], what).toContain(code);
      expect(
        outcomes.filter(({ name, code }) => name === 'extend' && code !== 'ok'),
        what,
      ).toEqual([]);
      expect(['RUNNING', 'PAUSED'], what).toContain(await drive.state(sandboxId));
      const running = (await drive.state(sandboxId)) === 'RUNNING' ? 1 : 0;
      await drive.expectOnly(running, 1);
      if (acknowledged === value && running === 1)
        expect(await drive.sh(sandboxId, 'tail -n 1 /dev/shm/log /root/log -q'), what).toBe(`${value}\n${value}`);
    }
    if ((await drive.state(sandboxId)) === 'PAUSED') await drive.resume(sandboxId);
    if (acknowledged > 0)
      expect(
        await drive.sh(
          sandboxId,
          `grep -qx ${acknowledged} /dev/shm/log && grep -qx ${acknowledged} /root/log && echo kept`,
        ),
      ).toBe('kept');
  });

  it('and a delete that races with all of them leaves nothing', async () => {
    const racing = [
      drive.pause(sandboxId),
      drive.sh(sandboxId, 'sleep 1'),
      drive.destroy(sandboxId),
      drive.resume(sandboxId),
    ];
    const outcomes = await Promise.allSettled(racing);
    expect(outcomes[2]?.status).toBe('fulfilled');
    await drive.expectOnly(0, 0);
    expect((await drive.refusal(drive.resume(sandboxId))).code).toBe('not_found');
    expect((await drive.refusal(agent.client.setTimeout({ sandboxId, timeoutSec: 1 }))).code).toBe('not_found');
    expect((await drive.refusal(drive.pause(newId('sandbox')))).code).toBe('not_found');
  });
});
