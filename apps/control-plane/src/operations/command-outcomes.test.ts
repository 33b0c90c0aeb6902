import { AppError } from '@aviary/core';
import { SandboxState } from '@aviary/proto/hostagent';
import { waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Reply, startTestPlatform, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
beforeAll(async () => {
  platform = await startTestPlatform();
});
afterAll(() => platform[Symbol.asyncDispose]());

const wait = { headers: { prefer: 'wait=20' } };
const createRunning = async (): Promise<string> => (await platform.call('POST', '/v1/sandboxes', wait)).body.id;
const post = (id: string, verb: string, options: object = wait) =>
  platform.call('POST', `/v1/sandboxes/${id}/${verb}`, options);
const operationOf = async (reply: Reply) =>
  (await platform.call('GET', `/v1/operations/${reply.headers.get('operation-id')}`)).body;
/** Tells of something as the host does, after all that it has told and answered of the sandbox so far. */
const report = async (event: object) => {
  const when = { occurred_at: new Date(Date.now() + 60_000).toISOString(), run: 1_000, sequence: ++sequence };
  const { status } = await platform.call('POST', '/v1/hosts/sandbox-events', {
    key: '',
    headers: { 'x-host-token': platform.host.token },
    body: { events: [{ id: crypto.randomUUID(), ...when, ...event }] },
  });
  expect(status).toBe(204);
};
let sequence = 1_000_000;
const called = (rpc: string, count = 1) =>
  waitFor(
    { what: `${rpc} being called`, timeoutMs: 10_000 },
    () => platform.agent.calls.filter((call) => call.rpc === rpc).length >= count,
  );

describe('a command that is waited for answers its own outcome', () => {
  test('a pause that worked is 200 and paused, although the sandbox was resumed before anybody looked', async () => {
    const id = await createRunning();
    const release = platform.agent.hold('pauseSandbox');
    const pausing = post(id, 'pause');
    await called('pauseSandbox');
    // The host's own event comes before its answer, and somebody acts on it.
    platform.agent.sandboxes.setState(id.slice(3), SandboxState.RUNNING);
    await report({ event: 'sandbox.paused', sandbox_id: id });
    const hold = platform.agent.hold('resumeSandbox');
    const resuming = post(id, 'resume');
    await called('resumeSandbox');
    release();
    const paused = await pausing;
    hold();
    expect([paused.status, paused.body.status]).toEqual([200, 'paused']);
    expect([(await resuming).status, (await resuming).body.status]).toEqual([200, 'running']);
    expect((await platform.call('GET', `/v1/sandboxes/${id}`)).body.status).toBe('running');
  });

  test('a resume from damaged memory is `integrity`, although the host told of the failure first', async () => {
    const id = await createRunning();
    await post(id, 'pause');
    platform.agent.failNext('resumeSandbox', new AppError('integrity', 'the saved memory is damaged'));
    const release = platform.agent.hold('resumeSandbox');
    const before = platform.agent.calls.filter((call) => call.rpc === 'resumeSandbox').length;
    const resuming = post(id, 'resume');
    await called('resumeSandbox', before + 1);
    await report({ event: 'sandbox.resume_failed', sandbox_id: id, reason: 'the saved memory is damaged' });
    release();
    const refused = await resuming;
    expect([refused.status, refused.body.error.code]).toEqual([500, 'integrity']);
    expect(refused.body.error.details).toMatchObject({ status: 'paused', operation_id: expect.stringMatching(/^op-/) });
  });

  test('a fork of which no copy starts is the reason; one that starts some is them', async () => {
    const id = await createRunning();
    platform.agent.failNext('forkSandbox', new AppError('disk_full', "the host's disk is full"));
    const refused = await post(id, 'fork', { body: { count: 2 }, ...wait });
    expect([refused.status, refused.body.error.code]).toEqual([507, 'disk_full']);
    platform.agent.sandboxes.failCopies(new AppError('disk_full', "the host's disk is full"), 2);
    const none = await post(id, 'fork', { body: { count: 2 }, ...wait });
    expect([none.status, none.body.error.code]).toEqual([507, 'disk_full']);
    for (const copy of none.body.error.details.sandbox_ids) {
      const { body } = await platform.call('GET', `/v1/sandboxes/${copy}`);
      expect(body).toMatchObject({ status: 'error', status_reason: "the host's disk is full" });
    }
    platform.agent.sandboxes.failCopies(new AppError('disk_full', "the host's disk is full"), 1);
    const some = await post(id, 'fork', { body: { count: 2 }, ...wait });
    expect(some.status).toBe(201);
    expect(some.body.items.map((item: { status: string }) => item.status).sort()).toEqual(['error', 'running']);
  });

  test('a start that a delete overtook says so', async () => {
    const release = platform.agent.hold('createSandbox');
    const creating = platform.call('POST', '/v1/sandboxes', wait);
    const before = platform.agent.calls.length;
    await waitFor({ what: 'the create call', timeoutMs: 10_000 }, () => platform.agent.calls.length > before);
    const [newest] = (await platform.call('GET', '/v1/sandboxes?limit=1')).body.items;
    await platform.call('DELETE', `/v1/sandboxes/${newest.id}`, wait);
    release();
    const overtaken = await creating;
    expect([overtaken.status, overtaken.body.error.code]).toEqual([409, 'invalid_state']);
    expect(await operationOf(overtaken)).toMatchObject({ state: 'superseded', sandbox_id: newest.id });
  });

  test('what nobody foresaw is told in words that stand alone, with the id that finds it', async () => {
    const id = await createRunning();
    platform.agent.failNext('forkSandbox', new AppError('internal', 'something went wrong on our side'));
    const refused = await post(id, 'fork');
    const operationId = refused.headers.get('operation-id');
    expect(refused.body.error.message).toBe(
      `fork failed: something went wrong on our side; give ${operationId} when you report it`,
    );
    const [copy] = refused.body.error.details.sandbox_ids;
    const { body } = await platform.call('GET', `/v1/sandboxes/${copy}`);
    expect(body.status_reason).toBe(refused.body.error.message);
  });
});

describe('operations', () => {
  test('are named in the answer and tell their state, steps and request', async () => {
    const created = await platform.call('POST', '/v1/sandboxes', wait);
    const operation = await operationOf(created);
    expect(operation).toMatchObject({
      kind: 'create',
      subject: { type: 'sandbox', id: created.body.id },
      state: 'succeeded',
      error: null,
      request_id: created.headers.get('x-request-id'),
      attempts: 1,
    });
    const steps = operation.phases.map((phase: { name: string }) => phase.name);
    expect(steps).toEqual(['placed', 'queued', 'agent', 'host.boot', 'settled']);
    expect(created.headers.get('server-timing')).toMatch(/placed;dur=\d+.*host\.boot;dur=1\.5/);
    expect(platform.agent.calls.at(-1)?.requestId).toBe(operation.request_id);
  });

  test('of a sandbox are listed, newest first, and not to others', async () => {
    const id = await createRunning();
    await post(id, 'pause');
    const path = `/v1/sandboxes/${id}/operations`;
    const first = await platform.call('GET', `${path}?limit=1`);
    expect(first.body.items.map((item: { kind: string }) => item.kind)).toEqual(['pause']);
    const second = await platform.call('GET', `${path}?limit=1&cursor=${first.body.next_cursor}`);
    expect(second.body).toMatchObject({ items: [{ kind: 'create' }], next_cursor: null });
    const key = await platform.createTeam();
    expect((await platform.call('GET', path, { key })).status).toBe(404);
    expect((await platform.call('GET', `/v1/operations/${first.body.items[0].id}`, { key })).status).toBe(404);
  });

  test('a repeat with the same key waits for the operation of the first', async () => {
    const release = platform.agent.hold('createSandbox');
    const headers = { 'idempotency-key': 'once' };
    const accepted = await platform.call('POST', '/v1/sandboxes', { headers });
    const repeated = platform.call('POST', '/v1/sandboxes', { headers: { ...headers, prefer: 'wait=20' } });
    release();
    expect([(await repeated).status, (await repeated).body.status]).toEqual([201, 'running']);
    expect((await repeated).headers.get('operation-id')).toBe(accepted.headers.get('operation-id'));
    expect((await repeated).headers.get('idempotency-replayed')).toBe('true');
  });

  test('a delete of what is being deleted answers with the operation that does it', async () => {
    const id = await createRunning();
    const release = platform.agent.hold('destroySandbox');
    const first = await platform.call('DELETE', `/v1/sandboxes/${id}`);
    const second = platform.call('DELETE', `/v1/sandboxes/${id}`, wait);
    release();
    expect([(await second).status, (await second).body.status]).toEqual([200, 'stopped']);
    expect((await second).headers.get('operation-id')).toBe(first.headers.get('operation-id'));
  });
});
