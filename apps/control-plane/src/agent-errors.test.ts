import { errorStatuses, routes } from '@aviary/api-contract';
import { AppError, type ErrorCode, errorCodes } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from './test-platform.ts';

let platform: TestPlatform;
beforeAll(async () => {
  platform = await startTestPlatform();
});
afterAll(() => platform[Symbol.asyncDispose]());

const wait = { headers: { prefer: 'wait=20' } };
const details = { field: 'ü', disk_intact: true };
const codes = Object.keys(errorCodes) as ErrorCode[];
/** What the contract lets a host say to the caller of a guest route. */
const tellable = codes.filter((code) => errorStatuses(routes.exec).includes(errorCodes[code].http));
/** What nobody foresaw is told with what finds it in the logs. */
const told = (code: ErrorCode) =>
  code === 'internal' ? `no ${code} today; give the request id when you report it` : `no ${code} today`;
const createRunning = async () => (await platform.call('POST', '/v1/sandboxes', wait)).body.id as string;

test("every error of a host's agent reaches the caller with its status, code, message and details", async () => {
  const id = await createRunning();
  const files = { path: '/tmp/x' };
  for (const code of tellable) {
    platform.agent.failNext('exec', new AppError(code, `no ${code} today`, { details }));
    platform.agent.failNext('readFile', new AppError(code, `no ${code} today`, { details }));
    for (const [route, body] of [
      ['exec', { cmd: 'true' }],
      ['files/read', files],
    ] as const) {
      const reply = await platform.call('POST', `/v1/sandboxes/${id}/${route}`, { body });
      expect([route, reply.status, reply.body.error]).toEqual([
        route,
        errorCodes[code].http,
        { code, message: told(code), request_id: expect.any(String), details },
      ]);
    }
  }
});

// Not host_unavailable: that is tried again until it works.
test.each(['disk_full', 'no_capacity', 'guest_unavailable', 'deadline_exceeded', 'integrity'] as const)(
  'a create that fails with %s says so to who waits, and for ever after',
  async (code) => {
    platform.agent.failNext('createSandbox', new AppError(code, 'because of that', { details }));
    const { status, body } = await platform.call('POST', '/v1/sandboxes', wait);
    expect([status, body.error.code]).toEqual([errorCodes[code].http, code]);
    expect(body.error.details).toMatchObject({ ...details, status: 'error', status_reason: 'because of that' });
    const later = await platform.call('GET', `/v1/sandboxes/${body.error.details.sandbox_id}`);
    expect(later.body).toMatchObject({ status: 'error', status_reason: 'because of that' });
  },
);

test('a resume from damaged memory offers a cold start, which works', async () => {
  const id = await createRunning();
  await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
  const damaged = new AppError('integrity', 'the saved memory is damaged', { details: { disk_intact: true } });
  platform.agent.failNext('resumeSandbox', damaged);
  const refused = await platform.call('POST', `/v1/sandboxes/${id}/resume`, wait);
  expect([refused.status, refused.body.error.code]).toEqual([500, 'integrity']);
  expect(refused.body.error.details).toMatchObject({ disk_intact: true, status: 'paused' });
  const cold = await platform.call('POST', `/v1/sandboxes/${id}/resume`, { body: { cold: true }, ...wait });
  expect(cold.body).toMatchObject({ status: 'running', start_path: 'cold_fallback' });
  expect(cold.body.status_reason).toContain('cold start');
});

test('a resume can go on from an older generation', async () => {
  const id = await createRunning();
  const first = (await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait)).body.generation_id;
  await platform.call('POST', `/v1/sandboxes/${id}/resume`, wait);
  await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
  const resumed = await platform.call('POST', `/v1/sandboxes/${id}/resume`, { body: { generation: first }, ...wait });
  expect(resumed.body).toMatchObject({ status: 'running', generation_id: first });
});

test('a refused rewind leaves a running sandbox running, with the reason', async () => {
  const id = await createRunning();
  const { generation_id } = (await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait)).body;
  await platform.call('POST', `/v1/sandboxes/${id}/resume`, wait);
  platform.agent.failNext('resumeSandbox', new AppError('integrity', 'that generation is damaged'));
  const body = { generation: generation_id };
  const refused = await platform.call('POST', `/v1/sandboxes/${id}/rewind`, { body, ...wait });
  expect([refused.status, refused.body.error.code, refused.body.error.details.status]).toEqual([
    500,
    'integrity',
    'running',
  ]);
  const after = await platform.call('GET', `/v1/sandboxes/${id}`);
  expect(after.body).toMatchObject({ status: 'running', status_reason: expect.stringContaining('is damaged') });
});

test('an agent that says good-bye does not hurt the control plane, and is reached again', async () => {
  const id = await createRunning();
  for (let round = 0; round < 5; round++) {
    const calls = [platform.agent.sayGoodbye(), platform.call('POST', `/v1/sandboxes/${id}/ping`)];
    await Promise.all(calls);
    expect((await platform.call('POST', `/v1/sandboxes/${id}/ping`)).status).toBe(204);
  }
});
