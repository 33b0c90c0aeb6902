import { open, readdir } from 'node:fs/promises';
import path from 'node:path';
import { newId } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type AgentHarness, minimalRequest, startAgentHarness } from '../testing/agent-harness.ts';
import { testImages } from '../testing/test-images.ts';

let agent: AgentHarness;

beforeAll(async () => {
  agent = await startAgentHarness({ imagesFrom: await testImages(), settings: { AVIARY_WARM_POOL: '1' } });
}, 600_000);
afterAll(() => agent?.[Symbol.asyncDispose]());

async function vmms(): Promise<number> {
  return (await agent.holdings()).processes.filter((line) => /qemu-system-/.test(line)).length;
}

async function expectVmms(count: number): Promise<void> {
  await waitFor(
    { what: `${count} microVMs`, timeoutMs: 60_000, intervalMs: 100 },
    async () => (await vmms()) === count,
  );
}

async function create(): Promise<{ startPath: string; destroy: () => Promise<unknown>; hostname: string }> {
  const sandboxId = newId('sandbox');
  const { sandbox } = await agent.client.createSandbox(minimalRequest(sandboxId));
  const result = await agent.client.exec({ sandboxId, cmd: '/bin/hostname', args: [], timeoutSec: 60 });
  return {
    startPath: sandbox?.startPath ?? '',
    hostname: Buffer.from(result.stdout).toString().trim(),
    destroy: () => agent.client.destroySandbox({ operationId: newId('operation'), sandboxId }),
  };
}

/** Creates until a warm microVM is taken. */
function createWarm(): ReturnType<typeof create> {
  return waitFor({ what: 'a warm start', timeoutMs: 120_000, intervalMs: 3_000 }, async () => {
    const sandbox = await create();
    if (sandbox.startPath === 'warm_pool') return sandbox;
    await sandbox.destroy();
    return undefined;
  });
}

it('starts a sandbox from a microVM that stood ready, as itself, and leaks none however the agent ends', async () => {
  const first = await create();
  expect(first.startPath).toBe('cold_boot');
  await first.destroy();

  // The pool has learned what is asked for; its microVM shows as one that no sandbox has, warm once it uses no processor.
  await expectVmms(1);
  const second = await createWarm();
  expect(second.hostname).not.toBe(first.hostname);
  await second.destroy();

  await expectVmms(1);
  await agent.stop('SIGTERM');
  expect(await agent.holdings()).toMatchObject({ processes: [], sandboxDirectories: [], records: [] });

  await agent.start();
  await (await create()).destroy();
  await expectVmms(1);
  await agent.stop('SIGKILL');
  await agent.start();
  await expectVmms(0);
  expect(await agent.holdings()).toMatchObject({ sandboxDirectories: [], records: [] });
});

it('hands out no warm microVM whose image was touched, and makes a new boot snapshot for a damaged one', async () => {
  const timesReady = () => agent.log().split('a microVM stands ready').length - 1;
  const before = timesReady();
  await (await create()).destroy();
  await waitFor({ what: 'a warm microVM', timeoutMs: 120_000, intervalMs: 100 }, async () => timesReady() > before);
  const generations = path.join(agent.dataDir, 'host/generations');
  const [image = ''] = (await readdir(generations)).map((id) => path.join(generations, id, 'memory.img'));
  await flipBit(image);
  const next = await create();
  expect(next.startPath).toBe('cold_boot');
  await next.destroy();
  expect(agent.log()).toContain('the image of a warm microVM was changed');
  await (await createWarm()).destroy();
  expect(agent.log()).not.toMatch(/"loop":"warm-pool".*loop step failed/);
});

/** Changes a file, and leaves it: one that somebody can still write is not read at all. */
async function flipBit(image: string): Promise<void> {
  await using file = await open(image, 'r+');
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, 1 << 20);
  await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, 1 << 20);
}
