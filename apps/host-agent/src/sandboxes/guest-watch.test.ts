import { newId } from '@aviary/core';
import { silentLogger } from '@aviary/service-kit';
import { beforeEach, expect, it } from 'vitest';
import { type RunningSandbox, visibleReason } from '../registry/sandbox-registry.ts';
import { GuestWatch, type GuestWatchDeps } from './guest-watch.ts';

let isOutOfSpace = false;
let isHealthy = true;
let freeBytes = 0;
let isLocked = false;
let onMeasure: () => void;
let sandbox: RunningSandbox;
let told: (string | undefined)[] = [];
let watch: GuestWatch;

beforeEach(() => {
  [isOutOfSpace, isHealthy, freeBytes, isLocked, told] = [false, true, 0, false, []];
  onMeasure = () => undefined;
  const vm = {
    get isOutOfSpace() {
      return isOutOfSpace;
    },
    // As QEMU does: the write is tried again.
    resume: async () => {
      isOutOfSpace = freeBytes === 0;
    },
  };
  const running = { vm, guest: { isHealthy: async () => isHealthy } } as unknown as RunningSandbox['running'];
  const record = {
    sandboxId: newId('sandbox'),
    state: 'running',
    reason: 'what was before',
  } as RunningSandbox['record'];
  sandbox = { record, running, openStreams: 0 };
  const push: GuestWatchDeps['registry']['events']['push'] = async (_name, _subject, facts) =>
    void told.push(facts?.reason);
  const events = { push, sequence: 0 };
  const registry = { list: () => [sandbox], isLocked: () => isLocked, events };
  const measure = async () => {
    onMeasure();
    return freeBytes;
  };
  watch = new GuestWatch({ registry, logger: silentLogger, freeBytes: measure });
});

it('says that a guest waits for space, lets it go on when there is some, and takes the words back', async () => {
  isOutOfSpace = true;
  await watch.lookForSpace();
  await watch.lookForSpace();
  expect([isOutOfSpace, told]).toEqual([true, [expect.stringContaining("host's disk is full")]]);
  freeBytes = 2 ** 30;
  await watch.lookForSpace();
  await watch.lookForSpace();
  expect(isOutOfSpace).toBe(false);
  expect(told).toEqual([expect.anything(), 'what was before']);
  expect(visibleReason(sandbox)).toBe('what was before');
});

it('leaves a guest alone that a command has stopped meanwhile', async () => {
  isOutOfSpace = true;
  freeBytes = 2 ** 30;
  onMeasure = () => {
    isLocked = true;
  };
  await watch.lookForSpace();
  expect(isOutOfSpace).toBe(true);
  isLocked = false;
  onMeasure = () => undefined;
  await watch.lookForSpace();
  expect(isOutOfSpace).toBe(false);
});

it('says that a guest is silent after some looks in a row, and that it answers again', async () => {
  isHealthy = false;
  for (const expected of [0, 0, 1, 1]) {
    await watch.lookForLife();
    expect(told).toHaveLength(expected);
  }
  expect(visibleReason(sandbox)).toContain('the guest agent does not answer');
  isHealthy = true;
  await watch.lookForLife();
  expect(told.at(-1)).toBe('what was before');
  isHealthy = false;
  await watch.lookForLife();
  expect(told).toHaveLength(2);
});

it('asks no guest that a command is busy with, and not one that cannot answer for want of space', async () => {
  isHealthy = false;
  isLocked = true;
  for (let look = 0; look < 4; look++) await watch.lookForLife();
  isLocked = false;
  isOutOfSpace = true;
  for (let look = 0; look < 4; look++) await watch.lookForLife();
  expect(told).toEqual([]);
});
