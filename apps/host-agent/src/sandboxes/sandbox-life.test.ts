import { newId, type SandboxId } from '@aviary/core';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { collectPhases } from '../phases.ts';
import type { MicroVm, Vmm } from '../vmm/vmm.ts';
import { createSandbox } from './create-sandbox.ts';
import { destroySandbox } from './destroy-sandbox.ts';
import { type FakeHost, startFakeHost } from './fake-host.ts';
import { forkSandbox } from './fork-sandbox.ts';
import { pauseSandbox } from './pause-sandbox.ts';
import { resumeSandbox } from './resume-sandbox.ts';

let host: FakeHost;
beforeEach(async () => {
  host = await startFakeHost();
});
afterEach(() => host[Symbol.asyncDispose]());

const operationId = () => newId('operation');
const pause = (sandboxId: SandboxId, isForced = false) =>
  pauseSandbox(host.services, { sandboxId, operationId: operationId(), cause: 'pause', isForced });
const resume = (sandboxId: SandboxId, generationId?: ReturnType<typeof newId<'generation'>>) =>
  resumeSandbox(host.services, {
    ...{ sandboxId, operationId: operationId(), timeoutSec: 60, isCold: false },
    ...(generationId === undefined ? {} : { generationId }),
  });

it('lives: created, paused, resumed, copied, put back, destroyed, and leaves nothing', async () => {
  const request = host.request();
  const { sandboxId } = request;
  const created = await createSandbox(host.services, request);
  expect(created.record).toMatchObject({ state: 'running', startPath: 'cold_boot', defaultUser: 'user' });
  expect((await createSandbox(host.services, request)).record).toBe(created.record);
  await host.services.warmPool.fillOnce(new AbortController().signal);
  const warm = await createSandbox(host.services, host.request());
  expect(warm.record.startPath).toBe('warm_pool');

  const first = (await pause(sandboxId)).record;
  expect(first).toMatchObject({ state: 'paused', reason: '' });
  expect((await host.holdings()).sandboxes).toHaveLength(1);
  expect((await resume(sandboxId)).record).toMatchObject({ state: 'running', startPath: 'resume' });

  const targets = [newId('sandbox'), newId('sandbox')];
  const { results } = await forkSandbox(host.services, {
    sandboxId,
    targets,
    operationId: operationId(),
    timeoutSec: 0,
  });
  expect(results.map(({ sandbox }) => sandbox?.record.state)).toEqual(['running', 'running']);

  const rewound = await resume(sandboxId, first.generationId);
  expect(rewound.record).toMatchObject({ state: 'running', generationId: first.generationId, reason: '' });
  for (const id of [sandboxId, warm.record.sandboxId, ...targets])
    await destroySandbox(host.services, { sandboxId: id, operationId: operationId() });
  await host.services.garbage.collect();
  expect(await host.holdings()).toEqual({ journal: [], sandboxes: [] });
  expect([...host.slots.taken]).toEqual([]);
  expect(host.told.filter((name) => name === 'sandbox.stopped')).toHaveLength(4);
});

it('saves the disk of a guest that does not answer when forced, and starts from it', async () => {
  const { record } = await createSandbox(host.services, host.request());
  host.guests.isSilent = true;
  await expect(pause(record.sandboxId)).rejects.toMatchObject({ code: 'guest_unavailable' });
  expect(host.services.registry.get(record.sandboxId).record).toMatchObject({
    ...{ state: 'running', reason: expect.stringContaining('the last pause failed') },
  });
  expect((await pause(record.sandboxId, true)).record.reason).toContain('stopped hard');
  host.guests.isSilent = false;
  expect((await resume(record.sandboxId)).record).toMatchObject({
    ...{ state: 'running', startPath: 'cold_fallback', reason: expect.stringContaining('stopped hard') },
  });
});

it('is an error when its microVM ends, and comes back from its disk; a resume that fails changes nothing', async () => {
  const { record } = await createSandbox(host.services, host.request());
  const { sandboxId } = record;
  const sandbox = host.services.registry.get(sandboxId);
  await sandbox.running?.vm.kill();
  await expect.poll(() => sandbox.record.state).toBe('error');
  const lost = sandbox.record;
  host.guests.isSilent = true;
  await expect(resume(sandboxId)).rejects.toMatchObject({ code: 'deadline_exceeded' });
  expect(sandbox.record).toMatchObject({ state: 'error', remains: 'remains' in lost ? lost.remains : undefined });
  host.guests.isSilent = false;
  expect((await resume(sandboxId)).record).toMatchObject({ state: 'running', startPath: 'cold_fallback' });
  expect(host.told.slice(-3)).toEqual(['sandbox.error', 'sandbox.resume_failed', 'sandbox.resumed']);
});

it('ends a restored microVM that does not go on, before its slot is for others', async () => {
  const { record } = await createSandbox(host.services, host.request());
  await pause(record.sandboxId);
  const restored: MicroVm[] = [];
  const vmm = {
    ...{
      boot: host.services.vmm.boot.bind(host.services.vmm),
      attach: host.services.vmm.attach.bind(host.services.vmm),
    },
    restore: async (...request: Parameters<Vmm['restore']>) => {
      const vm = await host.services.vmm.restore(...request);
      vm.resume = () => Promise.reject(new Error('no answer'));
      restored.push(vm);
      return vm;
    },
  } as Vmm;
  const request = { sandboxId: record.sandboxId, operationId: operationId(), timeoutSec: 60, isCold: false };
  await expect(resumeSandbox({ ...host.services, vmm }, request)).rejects.toThrow('no answer');
  expect(await restored[0]?.exited).toMatchObject({ reason: 'killed' });
  expect([...host.slots.taken]).toEqual([]);
});

it('cuts a fill of the warm pool short when the agent stops, and leaves nothing of it', async () => {
  await createSandbox(host.services, host.request());
  const before = await host.holdings();
  const stop = new AbortController();
  const { warmPool, bootSnapshots } = host.services;
  warmPool.want(bootSnapshots.gcRoots()[0]?.generationId as never);
  host.guests.onInit = () => stop.abort(new Error('the agent stops'));
  await expect(warmPool.fillOnce(stop.signal)).rejects.toThrow('the agent stops');
  expect(warmPool.ready).toBe(0);
  expect(await host.holdings()).toEqual(before);
});

it('tells how long each phase of a command took', async () => {
  const names = async (work: () => Promise<unknown>) => (await collectPhases(work)).phases.map(({ name }) => name);
  const first = host.request();
  const started = ['slot', 'disk', 'restore', 'guest'];
  expect(await names(() => createSandbox(host.services, first))).toEqual(['boot_snapshot', ...started]);
  expect(await names(() => pause(first.sandboxId))).toEqual(['drain', 'freeze', 'stop', 'save']);
  expect(await names(() => resume(first.sandboxId))).toEqual(['open', ...started]);
  const fork = { sandboxId: first.sandboxId, targets: [newId('sandbox')], operationId: operationId(), timeoutSec: 0 };
  const { result, phases } = await collectPhases(() => forkSandbox(host.services, fork));
  expect(phases.map(({ name }) => name)).toEqual(['freeze', 'stop', 'save', 'thaw']);
  expect(result.results[0]?.phases?.map(({ name }) => name)).toEqual(started);
});

it('says that the source of a fork lost its microVM', async () => {
  const { sandboxId } = await createSandbox(host.services, host.request()).then(({ record }) => record);
  host.guests.onFreeze = () => host.services.registry.getRunning(sandboxId).running.vm.kill();
  const fork = { sandboxId, targets: [newId('sandbox')], operationId: operationId(), timeoutSec: 0 };
  await expect(forkSandbox(host.services, fork)).rejects.toMatchObject({
    code: 'guest_unavailable',
    message: expect.stringMatching(/^the sandbox's microVM ended while its state was saved: \w/),
  });
});
