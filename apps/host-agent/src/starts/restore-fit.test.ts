import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { SavedOn } from '../generations/manifest.ts';
import { HostLayout } from '../layout.ts';
import { findRestoreMismatches, type RestoringHost } from './restore-fit.ts';

const machine = { vmm: 'qemu', version: '7.2', machineType: 'microvm', cpuModel: 'max', accelerator: 'tcg' } as const;
const [oldToolbox, newToolbox] = ['a'.repeat(64), 'b'.repeat(64)];
let layout: HostLayout;
let host: RestoringHost;

beforeEach(async () => {
  layout = new HostLayout(await mkdtemp(path.join(os.tmpdir(), 'aviary-fit-')));
  await mkdir(layout.imagesDirectory);
  const images = { kernel: { version: 'k' }, initramfs: { id: 'i' }, toolbox: { id: newToolbox } };
  host = { layout, identity: machine, images };
});
afterEach(() => rm(layout.dataDirectory, { recursive: true }));

const saved: SavedOn = {
  vmm: machine,
  kernelId: 'k',
  initramfsId: 'i',
  toolboxId: oldToolbox,
  memory: { kind: 'full', part: 'memory.img' },
};

it('restores with a replaced toolbox while its drive is there, and says when it is gone', async () => {
  await writeFile(layout.toolbox(oldToolbox), '');
  expect(await findRestoreMismatches(host, saved)).toEqual([]);
  await rm(layout.toolbox(oldToolbox));
  expect(await findRestoreMismatches(host, saved)).toEqual([`toolboxId was ${oldToolbox}, is ${newToolbox}`]);
});

it('does not take another kernel, whatever toolbox is there', async () => {
  await writeFile(layout.toolbox(oldToolbox), '');
  expect(await findRestoreMismatches(host, { ...saved, kernelId: 'other' })).toEqual(['kernelId was other, is k']);
});
