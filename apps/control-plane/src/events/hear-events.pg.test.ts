import { AppError, formatId } from '@aviary/core';
import { describeStores } from '@aviary/testing';
import { expect, test } from 'vitest';
import type { Extension } from '../start.ts';
import { startTestPlatform } from '../test-platform.ts';
import type { AuthEvent, ModuleHooks, SandboxEvent } from './module-hooks.ts';

const wait = { headers: { prefer: 'wait=20' } };
const hearing = { intervalMs: 20, maxAttempts: 3, timeoutMs: 5_000 };

const listener = (name: string, hooks: ModuleHooks): Extension => ({ name, hooks: () => hooks });

describeStores('hooks of a module', (open) => {
  const start = async (...extensions: Extension[]) =>
    startTestPlatform({ database: await open(), overrides: { extensions, hearing } });

  test('hear of sandboxes, accounts and keys, each thing once and in its order', async () => {
    const sandboxes: SandboxEvent[] = [];
    const auth: AuthEvent[] = [];
    await using platform = await start(
      listener('listener', {
        onSandboxEvent: async (event) => void sandboxes.push(event),
        onAuthEvent: async (event) => void auth.push(event),
      }),
    );
    const { id } = (await platform.call('POST', '/v1/sandboxes', wait)).body;
    await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
    const types = ['sandbox.created', 'sandbox.start_succeeded', 'sandbox.pause_requested', 'sandbox.pause_succeeded'];
    await expect.poll(() => sandboxes.map(({ type }) => type)).toEqual(types);
    for (const event of sandboxes)
      expect(event).toMatchObject({ teamId: platform.teamId, at: expect.any(Date), payload: expect.any(Object) });
    expect(new Set(sandboxes.map((event) => event.sandboxId && formatId('sandbox', event.sandboxId)))).toEqual(
      new Set([id]),
    );
    expect(sandboxes[3]?.payload).toMatchObject({ status: 'paused' });

    const person = await platform.signIn({ teamId: platform.teamId });
    const key = (await person.call('POST', '/v1/api-keys', { body: { name: 'told' } })).body;
    await person.call('DELETE', `/v1/api-keys/${key.id}`);
    await platform.call('POST', '/v1/auth/login', { body: { email: person.email, password: 'not this one' } });
    await expect
      .poll(() => auth.map(({ action }) => action))
      .toEqual(['api_key.create', 'api_key.revoke', 'user.log_in_failed']);
    expect(auth[0]).toMatchObject({
      teamId: platform.teamId,
      actor: { type: 'user', id: person.userId, name: person.email },
      resourceId: key.id.slice(4),
    });
    expect(sandboxes).toHaveLength(4);
  });

  test('are told again what they failed at, and in the end not, and hold nobody else up', async () => {
    const told: string[] = [];
    const heard: string[] = [];
    await using platform = await start(
      listener('failing', {
        onSandboxEvent: async ({ type }) => {
          told.push(type);
          if (type === 'sandbox.created') throw new Error('not this one');
          if (told.length === 4) throw new Error('not now');
        },
      }),
      listener('hearing', { onSandboxEvent: async ({ type }) => void heard.push(type) }),
    );
    expect((await platform.call('POST', '/v1/sandboxes', wait)).status).toBe(201);
    await expect.poll(() => heard).toEqual(['sandbox.created', 'sandbox.start_succeeded']);
    const tries = ['sandbox.created', 'sandbox.created', 'sandbox.created'];
    await expect.poll(() => told).toEqual([...tries, 'sandbox.start_succeeded', 'sandbox.start_succeeded']);
  });

  test('hear what happened while they were away, and on two replicas each thing once', async () => {
    const database = await open();
    const heard: string[] = [];
    const extension = listener('replayed', {
      onSandboxEvent: async ({ sandboxId, type }) => {
        if (type === 'sandbox.created') heard.push(String(sandboxId));
      },
    });
    const ids: string[] = [];
    await using platform = await startTestPlatform({ database });
    const create = async () => ids.push((await platform.call('POST', '/v1/sandboxes', wait)).body.id.slice(3));
    await create();
    // Before it was ever there.
    ids.length = 0;
    const first = await platform.startReplica({ extensions: [extension], hearing });
    await create();
    await expect.poll(() => heard).toEqual(ids);
    await first[Symbol.asyncDispose]();
    await create();
    for (const _ of [1, 2]) await platform.startReplica({ extensions: [extension], hearing });
    await Promise.all([create(), create(), create(), create()]);
    await expect.poll(() => [...heard].sort()).toEqual([...ids].sort());
  });

  test('see a request before anybody knows who calls, and may refuse it', async () => {
    const seen: string[] = [];
    await using platform = await start(
      listener('gate', {
        onRequest: async (request) => {
          seen.push(request.url);
          if (request.headers['x-blocked']) throw new AppError('rate_limited', 'not today', { retryAfterSec: 60 });
        },
      }),
    );
    const blocked = { headers: { 'x-blocked': '1' } };
    const refused = await platform.call('GET', '/v1/sandboxes', { ...blocked, key: 'nobody' });
    expect([refused.status, refused.body.error.message, refused.headers.get('retry-after')]).toEqual([
      429,
      'not today',
      '60',
    ]);
    expect((await platform.call('GET', '/v1/sandboxes')).status).toBe(200);
    expect(seen.filter((url) => url === '/v1/sandboxes')).toHaveLength(2);
  });
});
