import { AviaryClient } from '@aviary/sdk';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readApiKey } from './platform/start-platform.ts';
import { TestRealApi } from './test-real-api.ts';

let api: TestRealApi;
beforeAll(async () => {
  api = await TestRealApi.start();
}, 90_000);
afterAll(() => api?.[Symbol.asyncDispose]());

const aviary = (...argv: string[]) => api.run({ argv });

async function aviaryJson(...argv: string[]) {
  const { code, stdout, stderr } = await aviary(...argv, '--json');
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout);
}

describe('against the real control plane', () => {
  it('finds its key, and sees the host', async () => {
    const client = new AviaryClient({ apiUrl: api.platform.apiUrl, apiKey: await readApiKey(api.platform) });
    expect(await client.hosts.list()).toMatchObject([{ status: 'online', address: api.agent.address }]);
  });

  it('takes a sandbox through its life', async () => {
    const { id } = await aviaryJson('sandbox', 'create', '--memory', '256', '--metadata', 'job=1');
    expect(await aviaryJson('sandbox', 'get', id)).toMatchObject({ status: 'running', metadata: { job: '1' } });
    expect(await aviaryJson('sandbox', 'pause', id)).toMatchObject({ status: 'paused' });
    expect(await aviaryJson('sandbox', 'resume', id)).toMatchObject({ status: 'running' });
    expect((await aviaryJson('sandbox', 'fork', id, '--count', '2')).items).toHaveLength(2);
    const listed = await aviaryJson('sandbox', 'list', '--status', 'running');
    expect(listed.items).toHaveLength(3);
    for (const one of listed.items) {
      expect(await aviaryJson('sandbox', 'rm', one.id)).toMatchObject({ items: [{ status: 'stopped' }] });
    }
    expect((await aviaryJson('sandbox', 'list')).items).toEqual([]);
  });

  it('waits as the API says and asks again, where there was no room', async () => {
    const options = { apiUrl: api.platform.apiUrl, apiKey: await readApiKey(api.platform) };
    const first = await new AviaryClient(options).sandboxes.create({ memory_mb: 6_000 }, { waitSec: 20 });
    const delays: number[] = [];
    const client = new AviaryClient({
      ...options,
      sleep: async (ms) => {
        delays.push(ms);
        await new AviaryClient(options).sandboxes.delete(first.id, { waitSec: 20 });
      },
    });
    const { id, status } = await client.sandboxes.create({ memory_mb: 6_000 }, { waitSec: 20 });
    expect([status, delays]).toEqual(['running', [2_000]]);
    await client.sandboxes.delete(id, { waitSec: 20 });
  });

  it('reports what the API refuses', async () => {
    expect(await aviary('sandbox', 'get', 'sb-00000000-0000-7000-8000-000000000000')).toMatchObject({
      code: 3,
      stdout: '',
    });
    const refused = await aviary('sandbox', 'create', '--memory', '1');
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('--memory must be at least 256');
    const templateless = await aviary('run', '--template', 'no-such', '--', 'true');
    expect(templateless.code).toBe(3);
  });
});
