import {
  nextSandboxStatus,
  type SandboxId,
  type SandboxStatus,
  type SandboxTransition,
  sandboxStatusTraits,
} from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { describeStores } from '@aviary/testing';
import { afterEach, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';

const wait = { headers: { prefer: 'wait=20' } };

/** Numbers that are the same in every run of one seed (mulberry32). */
function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

describeStores('operations', (open) => {
  let platform: TestPlatform;
  afterEach(() => platform?.[Symbol.asyncDispose]());

  test('a replica that dies is taken over, and the host does the work once', async () => {
    platform = await startTestPlatform({
      database: await open(),
      // Hangs for ever after the host has answered: as a replica that is gone before it could write the outcome.
      fault: 'operation.after-create:hang',
      overrides: { runner: { leaseTtlMs: 600, drainMs: 10 } },
    });
    const { id } = (await platform.call('POST', '/v1/sandboxes')).body;
    const uuid: SandboxId = id.slice(3);
    await waitFor(
      { what: 'the first create', timeoutMs: 5_000 },
      () => platform.agent.sandboxes.get(uuid) !== undefined,
    );
    // It no longer renews: a lease in the past is all that a dead replica leaves.
    const { db } = platform.database;
    await db
      .updateTable('operations')
      .set({ lease_owner: platform.host.id.slice(5), lease_until: new Date(0) })
      .where('sandbox_id', '=', uuid)
      .execute();
    await platform.startReplica({ runner: { pollMs: 50 } });
    const row = await waitFor({ what: 'the takeover', timeoutMs: 10_000 }, async () => {
      const { body } = await platform.call('GET', `/v1/sandboxes/${id}`);
      return body.status === 'running' && body;
    });
    expect(row.start_path).toBe('cold_boot');
    expect(platform.agent.sandboxes.work).toEqual(['create']);
    expect(platform.agent.calls.filter((call) => call.rpc === 'createSandbox')).toHaveLength(2);
  });

  test('a delete during a create ends stopped, with nothing left on the host', async () => {
    platform = await startTestPlatform({ database: await open() });
    const release = platform.agent.hold('createSandbox');
    const { id } = (await platform.call('POST', '/v1/sandboxes')).body;
    await waitFor({ what: 'the create call', timeoutMs: 5_000 }, () => platform.agent.calls.length > 0);
    expect((await platform.call('DELETE', `/v1/sandboxes/${id}`, wait)).body.status).toBe('stopped');
    release();
    await waitFor({ what: 'the operations', timeoutMs: 10_000 }, async () => {
      const left = await platform.database.db
        .selectFrom('operations')
        .select('id')
        .where('state', '=', 'running')
        .execute();
      return left.length === 0;
    });
    expect(platform.agent.sandboxes.list()).toEqual([]);
    expect((await platform.call('GET', `/v1/sandboxes/${id}`)).body.status).toBe('stopped');
  });

  test('the last place on a host goes to one of many', async () => {
    platform = await startTestPlatform({ database: await open(), overrides: { placement: { vcpusPerCore: 3 / 64 } } });
    const replies = await Promise.all(Array.from({ length: 20 }, () => platform.call('POST', '/v1/sandboxes')));
    expect(replies.filter((reply) => reply.status === 202)).toHaveLength(3);
    for (const reply of replies) if (reply.status !== 202) expect(reply.body.error.code).toBe('no_capacity');
  });

  test.each([1, 2, 3])('commands and events in random order only ever follow the table (seed %i)', async (seed) => {
    platform = await startTestPlatform({ database: await open(), overrides: { reconciler: { graceMs: 0 } } });
    const second = await platform.startReplica();
    const random = seededRandom(seed);
    const { id } = (await platform.call('POST', '/v1/sandboxes')).body;
    let sequence = 0;
    const event = (name: string) => () =>
      platform.call('POST', '/v1/hosts/sandbox-events', {
        key: '',
        headers: { 'x-host-token': platform.host.token },
        body: {
          events: [
            {
              id: `${name}-${random()}`,
              event: name,
              sandbox_id: id,
              run: 1,
              sequence: ++sequence,
              occurred_at: new Date().toISOString(),
            },
          ],
        },
      });
    const command = (verb: string) => async () => {
      const base = random() < 0.5 ? platform.controlPlane.url : second.url;
      const response = await fetch(`${base}/v1/sandboxes/${id}/${verb}`, {
        method: 'POST',
        headers: { 'x-api-key': platform.apiKey },
      });
      if (response.status !== 202 && response.status !== 409)
        throw new Error(`${verb} answered ${response.status}: ${await response.text()}`);
    };
    const steps = [
      command('pause'),
      command('pause'),
      command('resume'),
      command('resume'),
      event('sandbox.auto_paused'),
      event('sandbox.error'),
      event('sandbox.started'),
    ];
    for (let round = 0; round < 12; round++) {
      const chosen = Array.from({ length: 4 }, () => steps[Math.floor(random() * steps.length)]);
      await Promise.all(chosen.map((step) => step?.()));
    }
    await platform.call('DELETE', `/v1/sandboxes/${id}`, wait);
    const { db } = platform.database;
    const history = await db
      .selectFrom('outbox_events')
      .select(['type', 'payload'])
      .where('sandbox_id', '=', id.slice(3))
      .orderBy('seq')
      .execute();
    const states = history.map(({ type, payload }) => ({
      type,
      ...(payload as { status: SandboxStatus; revision?: number }),
    }));
    expect(states[0]?.status).toBe('starting');
    for (const [index, state] of states.entries()) {
      const before = states[index - 1];
      if (!before) continue;
      const transition = state.type.replace('sandbox.', '') as SandboxTransition;
      expect([state.revision, nextSandboxStatus(before.status, transition)]).toEqual([index + 1, state.status]);
    }
    expect(states.at(-1)?.status).toBe('stopped');
    expect(sandboxStatusTraits[states.at(-1)?.status ?? 'pending'].transitional).toBe(false);
    await waitFor({ what: 'the host being free', timeoutMs: 10_000 }, async () => {
      const left = await db.selectFrom('operations').select('id').where('state', '=', 'running').execute();
      return left.length === 0;
    });
    await platform.controlPlane.context.reconciler.reconcileHost(platform.host.id.slice(5) as never);
    expect(platform.agent.sandboxes.list()).toEqual([]);
  });
});
