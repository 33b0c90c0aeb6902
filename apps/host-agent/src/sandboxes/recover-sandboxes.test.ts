import { mkdir } from 'node:fs/promises';
import { newId, type SandboxId } from '@aviary/core';
import type { FaultName } from '@aviary/service-kit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
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

const once = () => ({ operationId: newId('operation') });
const commands = {
  create: (sandboxId: SandboxId) => createSandbox(host.services, host.request(sandboxId)),
  pause: (sandboxId: SandboxId) => pauseSandbox(host.services, { sandboxId, ...once(), cause: 'pause' }),
  resume: (sandboxId: SandboxId) =>
    resumeSandbox(host.services, { sandboxId, ...once(), timeoutSec: 60, isCold: false }),
  fork: (sandboxId: SandboxId) =>
    forkSandbox(host.services, { sandboxId, ...once(), targets: [newId('sandbox')], timeoutSec: 0 }),
  destroy: (sandboxId: SandboxId) => destroySandbox(host.services, { sandboxId, ...once() }),
};

/** Where an agent ends for good in the middle of a command, and what the next one makes of it. */
const ends: [command: keyof typeof commands, point: FaultName, state: string | undefined][] = [
  ['create', 'create.before-slot', undefined],
  ['create', 'create.after-slot', undefined],
  ['create', 'create.after-init', undefined],
  ['create', 'create.before-running', undefined],
  ['create', 'create.after-running', 'running'],
  ['pause', 'pause.after-journal', 'running'],
  ['pause', 'pause.after-stop', 'running'],
  ['pause', 'pause.before-disk', 'running'],
  ['pause', 'pause.after-commit', 'paused'],
  ['pause', 'pause.after-release', 'paused'],
  ['resume', 'resume.after-journal', 'paused'],
  ['resume', 'resume.after-spawn', 'paused'],
  ['resume', 'resume.before-running', 'paused'],
  ['fork', 'checkpoint.before-switch', 'running'],
  ['fork', 'checkpoint.after-switch', 'running'],
  ['destroy', 'destroy.after-journal', undefined],
  ['destroy', 'destroy.after-release', undefined],
  ['destroy', 'destroy.after-files', undefined],
];

describe.each(ends)('an agent that ended in %s at %s', (command, point, state) => {
  it(`leaves ${state ?? 'nothing'}, which works`, async () => {
    const sandboxId = newId('sandbox');
    // The boot snapshot is there: it is not what is tested.
    await commands.destroy((await commands.create(newId('sandbox'))).record.sandboxId);
    if (command !== 'create') await commands.create(sandboxId);
    if (command === 'resume') await commands.pause(sandboxId);
    await host.restart({ fault: `${point}:hang` });
    void commands[command](sandboxId).catch(() => undefined);
    await expect.poll(() => host.reached.has(point)).toBe(true);
    await host.restart();
    expect(host.services.registry.find(sandboxId)?.record.state).toBe(state);
    if (state === undefined) {
      expect(await host.holdings()).toEqual({ journal: [], sandboxes: [] });
      return;
    }
    // Whatever was half done, it can be put away, taken up and ended.
    if (state === 'running') await commands.pause(sandboxId);
    await commands.resume(sandboxId);
    await commands.destroy(sandboxId);
    expect(await host.holdings()).toEqual({ journal: [], sandboxes: [] });
  });
});

it('adopts what runs, tells of what is gone, and removes what nobody knows', async () => {
  const [stays, goes] = [await commands.create(newId('sandbox')), await commands.create(newId('sandbox'))];
  const { record } = goes;
  const pid = record.state === 'running' ? record.run.vmm.pid : 0;
  await mkdir(host.layout.sandbox(newId('sandbox')));
  await host.restart({ meanwhile: async () => process.kill(pid, 'SIGKILL') });
  const { registry } = host.services;
  expect(registry.get(stays.record.sandboxId).running).toBeDefined();
  expect(registry.get(record.sandboxId).record).toMatchObject({
    state: 'error',
    reason: expect.stringContaining('gone'),
  });
  expect(host.told.at(-1)).toBe('sandbox.error');
  expect((await host.holdings()).sandboxes.toSorted()).toEqual(
    [stays, goes].map(({ record }) => record.sandboxId).toSorted(),
  );
  await expect(commands.resume(record.sandboxId)).resolves.toMatchObject({ record: { state: 'running' } });
});
