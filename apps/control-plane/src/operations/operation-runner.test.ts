import { AppError, type HostId, newId, platformTeamId } from '@aviary/core';
import { type Database, migrate, openDatabase } from '@aviary/database';
import { FaultPoints, silentLogger } from '@aviary/service-kit';
import { VirtualClock } from '@aviary/service-kit/virtual-clock';
import { Type } from 'typebox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { OperationDefinitions, OperationHandlers } from './operation.ts';
import { registerOperations } from './operation-registry.ts';
import { defaultRunnerOptions, OperationRunner } from './operation-runner.ts';
import { findOperation, insertOperation, type OperationRow } from './operation-store.ts';
import { OperationWaits } from './operation-waits.ts';

const definitions = {
  probe: { subject: 'host', payload: Type.Object({ greeting: Type.String() }) },
} as const satisfies OperationDefinitions;
type Handler = OperationHandlers<typeof definitions>['probe'];

let database: Database;
const replicaId = newId('host');
beforeAll(async () => {
  database = await openDatabase({});
  await migrate(database);
});
afterAll(() => database[Symbol.asyncDispose]());

function createRunner(handler: Partial<Handler>, clock = new VirtualClock()) {
  const service = { database, clock, logger: silentLogger, faults: new FaultPoints(), replicaId };
  const probe: Handler = {
    retryBudgetMs: 10_000,
    run: async () => async () => ({ state: 'succeeded', result: { said: 'hello' } }),
    fail: async (_operation, error) => async () => ({ state: 'failed', error }),
    ...handler,
  };
  const operations = registerOperations(definitions, { probe });
  return { clock, runner: new OperationRunner({ ...service, operations }, defaultRunnerOptions) };
}

const subject = (): { type: 'host'; id: HostId } => ({ type: 'host', id: newId('host') });
const accept = (runner: OperationRunner) =>
  database.transaction((unit) =>
    runner.accept(unit, definitions, {
      operation: {
        teamId: platformTeamId,
        sandboxId: null,
        kind: 'probe',
        subject: subject(),
        payload: { greeting: 'hello' },
      },
    }),
  );

/** An operation that a dead replica left. */
async function leave(facts: { kind?: string; payload?: unknown; attempts?: number }) {
  const { kind = 'probe', payload = { greeting: 'hello' }, attempts = 1 } = facts;
  const { id } = await insertOperation(
    database.db,
    {
      id: newId('operation'),
      teamId: platformTeamId,
      sandboxId: null,
      kind,
      subject: subject(),
      payload,
      requestId: null,
    },
    { owner: newId('host'), ttlMs: -1_000 },
  );
  await database.db.updateTable('operations').set({ attempts }).where('id', '=', id).execute();
  return id;
}

async function ended(id: Awaited<ReturnType<typeof leave>>): Promise<OperationRow> {
  return expect
    .poll(async () => (await findOperation(database.db, platformTeamId, id))?.state)
    .not.toBe('running')
    .then(async () => (await findOperation(database.db, platformTeamId, id)) as OperationRow);
}

describe('the runner', () => {
  test('starts what it accepted after the commit, and nothing of what was undone', async () => {
    const ran: string[] = [];
    const { runner } = createRunner({
      run: async ({ payload }) => {
        ran.push(payload.greeting);
        return async () => ({ state: 'succeeded', result: { said: payload.greeting } });
      },
    });
    await expect(
      database.transaction(async (unit) => {
        await runner.accept(unit, definitions, {
          operation: {
            teamId: platformTeamId,
            sandboxId: null,
            kind: 'probe',
            subject: subject(),
            payload: { greeting: 'undone' },
          },
        });
        throw new Error('undo');
      }),
    ).rejects.toThrow('undo');
    const row = await ended(await accept(runner));
    expect(row).toMatchObject({ state: 'succeeded', result: { said: 'hello' }, error: null });
    expect(row.phases.map(({ name }) => name)).toEqual(['queued', 'settled']);
    expect(ran).toEqual(['hello']);
  });

  test('tries again while a host is away, as long as the handler says', async () => {
    let tries = 0;
    const { runner, clock } = createRunner({
      run: async () => {
        tries++;
        throw new AppError('host_unavailable', 'the host does not answer');
      },
    });
    const id = await accept(runner);
    await expect
      .poll(async () => {
        await clock.advance(1_000);
        return (await findOperation(database.db, platformTeamId, id))?.state;
      })
      .toBe('failed');
    expect((await ended(id)).error).toMatchObject({ code: 'host_unavailable' });
    expect(tries).toBeGreaterThan(3);
  });

  test('takes over what a dead replica left, and leaves kinds that it does not know', async () => {
    const { runner } = createRunner({});
    const [known, unknown] = [await leave({}), await leave({ kind: 'of_a_newer_version' })];
    await runner.runOnce();
    expect(await ended(known)).toMatchObject({ state: 'succeeded', attempts: 2 });
    expect(await findOperation(database.db, platformTeamId, unknown)).toMatchObject({ state: 'running', attempts: 1 });
  });

  test('ends what it cannot read, with the reason', async () => {
    const { runner } = createRunner({});
    const id = await leave({ payload: { greeting: 7 } });
    await runner.runOnce();
    expect(await ended(id)).toMatchObject({ state: 'failed', error: { code: 'integrity' } });
  });

  test('gives up what was begun too often, though its handler cannot say what is left', async () => {
    const { runner } = createRunner({
      fail: async () => {
        throw new Error('the handler is broken');
      },
    });
    const id = await leave({ attempts: defaultRunnerOptions.maxAttempts });
    await runner.runOnce();
    const { state, error } = await ended(id);
    expect([state, error?.message]).toEqual(['failed', expect.stringContaining(`given up after`)]);
    expect(error?.message).toContain(`op-${id}`);
  });
});

describe('waits', () => {
  test('end by a look of their own when every notice is lost, and with the time that was given', async () => {
    const clock = new VirtualClock();
    const waits = new OperationWaits({ database, clock, logger: silentLogger });
    const id = await leave({ kind: 'nobody_runs_this' });
    const short = waits.wait(platformTeamId, id, { timeoutMs: 3_000 });
    const long = waits.wait(platformTeamId, id, { timeoutMs: 60_000 });
    await expect.poll(() => clock.sleeping).toBe(2);
    await clock.advance(3_000);
    expect((await short).state).toBe('running');
    await database.db.updateTable('operations').set({ state: 'succeeded' }).where('id', '=', id).execute();
    await clock.advance(2_000);
    expect((await long).state).toBe('succeeded');
  });

  test('end at once when the client goes, and say when there is no such operation', async () => {
    const waits = new OperationWaits({ database, clock: new VirtualClock(), logger: silentLogger });
    const gone = new AbortController();
    const id = await leave({ kind: 'nobody_runs_this' });
    const waiting = waits.wait(platformTeamId, id, { timeoutMs: 60_000, signal: gone.signal });
    gone.abort();
    expect((await waiting).state).toBe('running');
    await expect(waits.wait(platformTeamId, newId('operation'), { timeoutMs: 1 })).rejects.toMatchObject({
      code: 'not_found',
    });
  });
});
