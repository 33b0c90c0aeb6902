import { createHash, createHmac } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Signal } from '@aviary/proto/process';
import { waitFor } from '@aviary/service-kit/deadline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accessToken, cgroupRoot, hostToken, TestAgent } from './test-agent.ts';

let guest: TestAgent;
beforeAll(async () => {
  guest = await TestAgent.start();
});
afterAll(() => guest[Symbol.asyncDispose]());

describe('freeze', () => {
  it.skipIf(!cgroupRoot)('stops user processes, syncs, answers meanwhile, and thaws', async () => {
    const counter = join(guest.directory, 'counter');
    const pid = await guest.startAndLeave(`while :; do echo x >> ${counter}; sleep 0.01; done`);
    await waitFor({ what: 'a first count', timeoutMs: 5_000 }, () => existsSync(counter));
    const headers = { 'x-aviary-host-token': hostToken };
    expect(
      (await fetch(`${guest.base}/freeze`, { method: 'POST', headers: { 'x-access-token': accessToken } })).status,
    ).toBe(401);
    expect((await fetch(`${guest.base}/freeze`, { method: 'POST', headers })).status).toBe(204);
    expect(guest.applied).toContain('sync');
    const frozenSize = statSync(counter).size;
    expect((await fetch(`${guest.base}/metrics`, { headers })).status).toBe(200);
    expect(statSync(counter).size).toBe(frozenSize);
    expect((await fetch(`${guest.base}/thaw`, { method: 'POST', headers })).status).toBe(204);
    await waitFor({ what: 'a count after the thaw', timeoutMs: 5_000 }, () => statSync(counter).size > frozenSize);
    await guest
      .clients()
      .process.sendSignal({ process: { selector: { case: 'pid', value: pid } }, signal: Signal.SIGKILL });
  });
});

describe('init and access', () => {
  it('applies each step, and names a bad field', async () => {
    expect(guest.applied).toEqual(expect.arrayContaining(['clock 1700000000000', 'entropy 64', 'neighbours']));
    const refused = await guest.initialize({ machineId: 'short' });
    expect(refused.status).toBe(400);
    expect(await refused.text()).toContain('machineId');
  });

  it('rotates the access token', async () => {
    expect((await guest.initialize({ accessToken: 'second' })).status).toBe(204);
    expect((await fetch(`${guest.base}/envs`, { headers: { 'x-access-token': accessToken } })).status).toBe(401);
    expect(await (await fetch(`${guest.base}/envs`, { headers: { 'x-access-token': 'second' } })).json()).toEqual({
      FROM_SANDBOX: 'yes',
    });
    expect((await guest.initialize()).status).toBe(204);
  });

  it('proves that it knows the digest of the host token, for one nonce', async () => {
    const key = createHash('sha256').update(hostToken).digest();
    for (const nonce of ['0'.repeat(64), 'ab'.repeat(32)]) {
      const response = await fetch(`${guest.base}/proof?nonce=${nonce}`);
      const proof = createHmac('sha256', key).update(`aviary-guest-proof-1:${nonce}`).digest('hex');
      expect([response.status, response.headers.get('x-aviary-proof')]).toEqual([204, proof]);
    }
    expect((await fetch(`${guest.base}/proof?nonce=short`)).status).toBe(400);
  });

  it('opens health and its proof to anybody, and nothing else', async () => {
    expect((await fetch(`${guest.base}/health`)).status).toBe(204);
    for (const path of ['/version', '/metrics', '/envs', '/files?path=/etc/passwd']) {
      expect((await fetch(guest.base + path)).status, path).toBe(401);
    }
  });
});
