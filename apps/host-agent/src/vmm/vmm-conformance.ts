import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { must } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DiskLayer } from '../disk/disk-store.ts';
import { isRunning } from './process/process-table.ts';
import { collectDirty, copyWithDirtyPages, lastTick, pageBytes, tickTimeoutMs, waitForTick } from './ticking-guest.ts';
import type { MachineSpec, MicroVm, Vmm } from './vmm.ts';

type Layer = MachineSpec['disk'];

/** What the suite needs of a driver's surroundings. */
export interface VmmHarness extends AsyncDisposable {
  /** A driver as a newly started agent makes it. */
  createVmm(): Vmm;
  /**
   * A fresh machine with its own run directory, disk and memory path. At each tick its guest fills some pages of memory and zeroes
   * those of the tick before, writes `tick N` (8 digits) to the start of its disk, then `tick N` to its console. With
   * the kernel parameter `test.then=poweroff` it powers off after the fifth.
   */
  createSpec(id: string): Promise<MachineSpec>;
  /** A new layer on top of `base`, for the machines of {@link createSpec}. */
  createLayer(base: DiskLayer): Promise<Layer>;
  /** Takes a layer away from whoever wrote it. */
  freezeLayer(layer: DiskLayer): Promise<void>;
  /** The first bytes of a disk as its guest sees them, also while a microVM has it open. */
  readDisk(layer: DiskLayer): Promise<string>;
  /** How many pages of guest RAM the kernel counts as the VMM's own. Unset where RAM is not a file mapping. */
  countOwnPages?(vm: MicroVm): Promise<number>;
  /** Leaves the VMM less memory of the host than its guest is going to write. Unset where nothing limits it. */
  takeMemory?(vm: MicroVm): Promise<void>;
  /** Guest RAM of a paused microVM, read another way than `dirtyPages` does. */
  readMemory(vm: MicroVm): Promise<Buffer>;
  /** Names of processes, cgroups and namespaces of microVMs that exist now. */
  leftovers(): Promise<string[]>;
  /** Moves a machine's disk to where no write fits. Unset where the driver knows nothing of a full disk. */
  fillDisk?(spec: MachineSpec): Promise<{ spec: MachineSpec; makeRoom(): Promise<void> }>;
  /** Makes a start fail: the spec's VMM cannot run. */
  breakSpec(spec: MachineSpec): MachineSpec;
}

const leakRounds = 20;

/** Holds any driver to the {@link Vmm} interface. */
export function describeVmmDriver(name: string, makeHarness: () => Promise<VmmHarness>): void {
  describe(`${name} VMM driver`, () => {
    let harness: VmmHarness;
    let vmm: Vmm;
    let nextId = 1;
    const never = new AbortController().signal;
    const createSpec = () => harness.createSpec(`conf-${process.pid}-${nextId++}`);

    /** A booted, paused and saved microVM: every other test restores from it. It has been killed. */
    let saved: { spec: MachineSpec; statePath: string; tick: number };
    const restoreSpec = async (): Promise<MachineSpec> => ({
      ...(await createSpec()),
      memoryPath: saved.spec.memoryPath,
      disk: await harness.createLayer(saved.spec.disk),
    });

    beforeAll(async () => {
      harness = await makeHarness();
      vmm = harness.createVmm();
      const spec = await createSpec();
      const vm = await vmm.boot(spec, never);
      await waitForTick(vm, 3);
      await vm.pause();
      const statePath = path.join(spec.runDirectory, '..', `state-${spec.id}`);
      await vm.saveState(statePath);
      await vm.flushDisk();
      saved = { spec, statePath, tick: lastTick(await vm.consoleTail()) };
      await vm.kill();
      await harness.freezeLayer(spec.disk);
    });

    afterAll(async () => {
      await vmm?.[Symbol.asyncDispose]();
      await harness?.[Symbol.asyncDispose]();
    });

    it('says what it found on this machine', async () => {
      const identity = await vmm.probe(never);
      expect(identity.vmm).toBe(vmm.name);
      expect(identity.version).not.toBe('');
      if (identity.accelerator === 'tcg') expect(identity.accelerationNote).toBeTruthy();
    });

    it('stops the guest while it is paused and lets it go on after', async () => {
      const vm = await restored();
      await vm.resume();
      const before = await waitForTick(vm, saved.tick + 1);
      await vm.pause();
      await vm.pause();
      const memory = await harness.readMemory(vm);
      await vm.consoleTail();
      expect(memory.equals(await harness.readMemory(vm))).toBe(true);
      await vm.resume();
      expect(await waitForTick(vm, before + 2)).toBeGreaterThan(before);
      await vm.kill();
    });

    it('restores several guests from one state, which none of them changes', async () => {
      const files = [saved.spec.memoryPath, saved.spec.disk.path, saved.statePath];
      const before = await Promise.all(files.map(fingerprint));
      const specs = await Promise.all([restoreSpec(), restoreSpec()]);
      const vms = await Promise.all(specs.map((spec) => vmm.restore(spec, saved, never)));
      for (const vm of vms) {
        await vm.resume();
        expect(await waitForTick(vm, saved.tick + 1)).toBeLessThan(saved.tick + 100);
      }
      await Promise.all(vms.map((vm) => vm.kill()));
      for (const { disk } of specs) expect(await diskTick(disk)).toBeGreaterThan(saved.tick);
      expect(await Promise.all(files.map(fingerprint))).toEqual(before);
    });

    it('restores from a memory file and the pages that differ from it, which count as written', async () => {
      const source = await restoreSpec();
      const vm = await vmm.restore(source, saved, never);
      await vm.resume();
      const tick = await waitForTick(vm, saved.tick + 3);
      await vm.pause();
      const statePath = path.join(source.runDirectory, '..', `state-${source.id}`);
      await vm.saveState(statePath);
      const dirty = await collectDirty(vm);
      const memory = await harness.readMemory(vm);
      await vm.kill();
      await harness.freezeLayer(source.disk);
      const { mtimeMs } = await stat(saved.spec.memoryPath);
      const pages = async function* () {
        // The order is the caller's choice.
        for (const [offset, data] of [...dirty].reverse()) yield { offset, data };
      };
      const spec = { ...(await restoreSpec()), disk: await harness.createLayer(source.disk) };
      const again = await vmm.restore(spec, { statePath, pages: pages() }, never);
      const changed = differingPages(await harness.readMemory(again), memory);
      // KVM writes the page of the guest's own clock whenever a state is loaded.
      const { accelerator } = await vmm.probe(never);
      expect(changed.length).toBeLessThanOrEqual(accelerator === 'kvm' ? 1 : 0);
      for (const offset of changed) expect(dirty.has(offset), `page ${offset}`).toBe(true);
      const reported = await collectDirty(again);
      for (const offset of dirty.keys()) expect(reported.has(offset), `page ${offset}`).toBe(true);
      await again.resume();
      expect(await waitForTick(again, tick + 2)).toBeLessThan(tick + 100);
      await again.kill();
      expect((await stat(saved.spec.memoryPath)).mtimeMs).toBe(mtimeMs);
      const outside = async function* () {
        yield { offset: memory.length, data: Buffer.alloc(pageBytes) };
      };
      await expect(vmm.restore(await restoreSpec(), { statePath, pages: outside() }, never)).rejects.toThrow();
      expect(await harness.leftovers()).toEqual([]);
    });

    it('saves again after each resume, and needs no more than the dirty pages to restore', async () => {
      const source = await restoreSpec();
      const vm = await vmm.restore(source, saved, never);
      let tick = saved.tick;
      const spec = await createSpec();
      const statePath = path.join(spec.runDirectory, '..', `state-${spec.id}`);
      for (let round = 0; round < 3; round++) {
        await vm.resume();
        tick = await waitForTick(vm, tick + 2);
        await vm.pause();
        await rm(statePath, { force: true });
        await vm.saveState(statePath);
        await vm.flushDisk();
      }
      await copyWithDirtyPages(vm, { from: saved.spec.memoryPath, to: spec.memoryPath });
      await vm.kill();
      await harness.freezeLayer(source.disk);
      const written = await harness.readDisk(source.disk);
      const disk = await harness.createLayer(source.disk);
      expect(await harness.readDisk(disk)).toBe(written);
      const again = await vmm.restore({ ...spec, disk }, { statePath }, never);
      await again.resume();
      tick = await waitForTick(again, tick + 2);
      expect(tick).toBeLessThan(saved.tick + 100);
      await again.kill();
      expect(await diskTick(disk)).toBeGreaterThanOrEqual(tick);
      expect(await harness.readDisk(source.disk)).toBe(written);
    });

    it('goes on with another disk layer, and writes the old one never again', async () => {
      const spec = await restoreSpec();
      const first = harness.createVmm();
      const started = await first.restore(spec, saved, never);
      const record = structuredClone(started.record);
      await started.resume();
      await expect(started.switchDisk(await harness.createLayer(spec.disk))).rejects.toMatchObject({
        code: 'invalid_state',
      });
      let tick = await waitForTick(started, saved.tick + 1);
      await first[Symbol.asyncDispose]();
      // Twice, as the next agent does it: what the first left is found, not remembered.
      let layer = spec.disk;
      for (let round = 0; round < 2; round++) {
        await using next = harness.createVmm();
        const vm = must(await next.attach(record), 'it runs');
        await vm.pause();
        await vm.flushDisk();
        expect(await vm.diskPath()).toBe(layer.path);
        await harness.freezeLayer(layer);
        const before = await fingerprint(layer.path);
        const written = await diskTick(layer);
        const above = await harness.createLayer(layer);
        await vm.switchDisk(above);
        await vm.switchDisk(above);
        expect(await vm.diskPath()).toBe(above.path);
        await expect(vm.switchDisk({ ...above, path: `${above.path}-missing` })).rejects.toMatchObject({
          name: 'AppError',
        });
        // Whoever else starts on the old layer now is not held up by the one that wrote it.
        const other = await vmm.restore(
          { ...(await restoreSpec()), disk: await harness.createLayer(layer) },
          saved,
          never,
        );
        await vm.resume();
        tick = await waitForTick(vm, written + 2);
        await vm.pause();
        await vm.flushDisk();
        expect(await diskTick(above)).toBeGreaterThanOrEqual(tick);
        expect(await diskTick(layer)).toBe(written);
        expect(await fingerprint(layer.path)).toEqual(before);
        await other.kill();
        await vm.resume();
        layer = above;
      }
      await vmm.attach(record).then((vm) => vm?.kill());
    });

    it('reports every page that was written since the restore and, but for rewrites of the same bytes, no other', async () => {
      const vm = await restored();
      const untouched = await collectDirty(vm);
      if (harness.countOwnPages) expect(untouched.size).toBe(await harness.countOwnPages(vm));
      await vm.resume();
      await waitForTick(vm, saved.tick + 3);
      await vm.pause();
      const dirty = await collectDirty(vm);
      const base = await readFile(saved.spec.memoryPath);
      const memory = await harness.readMemory(vm);
      let changed = 0;
      let zeroed = 0;
      for (let offset = 0; offset < base.length; offset += pageBytes) {
        const now = memory.subarray(offset, offset + pageBytes);
        const isChanged = !now.equals(base.subarray(offset, offset + pageBytes));
        const reported = dirty.get(offset);
        if (isChanged) changed++;
        if (isChanged && now.equals(Buffer.alloc(pageBytes))) zeroed++;
        if (isChanged) expect(reported, `page ${offset} was written but not reported`).toBeDefined();
        if (reported) expect(reported.equals(now), `page ${offset} was reported with other bytes`).toBe(true);
      }
      if (harness.countOwnPages) expect(dirty.size).toBe(await harness.countOwnPages(vm));
      expect(changed).toBeGreaterThan(0);
      expect(zeroed).toBeGreaterThan(0);
      expect(dirty.size).toBeGreaterThan(untouched.size);
      expect([...dirty.keys()]).toEqual([...dirty.keys()].sort((a, b) => a - b));
      await vm.kill();
    });

    it('refuses to save or read the memory of a running guest', async () => {
      const vm = await restored();
      await vm.resume();
      const statePath = path.join(vm.record.runDirectory, 'refused');
      await expect(vm.saveState(statePath)).rejects.toMatchObject({ code: 'invalid_state' });
      await expect(vm.dirtyPages(async () => undefined)).rejects.toMatchObject({ code: 'invalid_state' });
      await expect(vm.flushDisk()).rejects.toMatchObject({ code: 'invalid_state' });
      await vm.kill();
    });

    it('finds a running guest again after the agent has restarted', async () => {
      const first = harness.createVmm();
      const vm = await first.restore(await restoreSpec(), saved, never);
      await vm.resume();
      const record = structuredClone(vm.record);
      await first[Symbol.asyncDispose]();
      expect(await isRunning(record)).toBe(true);
      await using second = harness.createVmm();
      const found = await second.attach(record);
      expect(found?.record).toEqual(record);
      if (!found) throw new Error('not found');
      await waitForTick(found, saved.tick + 2);
      await found.pause();
      expect((await collectDirty(found)).size).toBeGreaterThan(0);
      await found.kill();
      expect(await found.exited).toEqual({ reason: 'killed', lastOutput: '' });
      expect(await second.attach(record)).toBeUndefined();
    });

    it('holds a guest while the disk of the host is full, tells the next agent, and goes on with the write', async () => {
      if (!harness.fillDisk) return;
      const { spec, makeRoom } = await harness.fillDisk(await createSpec());
      const first = harness.createVmm();
      const vm = await first.boot(spec, never);
      await waitFor({ what: 'a write without space', timeoutMs: tickTimeoutMs }, () => vm.isOutOfSpace);
      await vm.resume();
      await waitFor({ what: 'the same write again', timeoutMs: tickTimeoutMs }, () => vm.isOutOfSpace);
      await first[Symbol.asyncDispose]();
      await using second = harness.createVmm();
      const found = must(await second.attach(structuredClone(vm.record)), 'it runs');
      expect(found.isOutOfSpace).toBe(true);
      await makeRoom();
      await found.resume();
      await waitForTick(found, 3);
      expect(found.isOutOfSpace).toBe(false);
      await found.kill();
    });

    it('takes neither a dead VMM nor another process with its id for a running one', async () => {
      const vm = await restored();
      const record = structuredClone(vm.record);
      await vm.kill();
      expect(await vmm.attach(record)).toBeUndefined();
      expect(await vmm.attach({ ...record, pid: process.pid })).toBeUndefined();
    });

    it('ends the microVMs that nobody knows, and no other', async () => {
      const first = harness.createVmm();
      const [kept, stray] = await Promise.all([
        first.restore(await restoreSpec(), saved, never),
        first.restore(await restoreSpec(), saved, never),
      ]);
      await first[Symbol.asyncDispose]();
      await using second = harness.createVmm();
      await second.removeStrays(new Set([kept.record.id]));
      expect(await isRunning(stray.record)).toBe(false);
      expect(await second.attach(stray.record)).toBeUndefined();
      const found = must(await second.attach(kept.record), 'it was kept');
      await found.resume();
      await waitForTick(found, saved.tick + 1);
      await second.removeStrays(new Set());
      expect(await isRunning(kept.record)).toBe(false);
      await found.exited;
      expect(await harness.leftovers()).toEqual([]);
    });

    it('says why a guest ended', async () => {
      const poweringOff = async () => {
        const spec = await createSpec();
        return { ...spec, kernelParameters: [...spec.kernelParameters, 'test.then=poweroff'] };
      };
      const unwatched = await poweringOff();
      const first = harness.createVmm();
      const [vm, { record }] = await Promise.all([
        vmm.boot(await poweringOff(), never),
        first.boot(unwatched, never).then(({ record }) => ({ record: structuredClone(record) })),
      ]);
      await first[Symbol.asyncDispose]();
      const end = await vm.exited;
      expect(end.reason).toBe('guest powered off');
      expect(end.lastOutput).toContain('tick 5');
      await vm.kill();
      await waitFor({ what: 'the last tick', timeoutMs: tickTimeoutMs, intervalMs: 100 }, async () => {
        return (await diskTick(unwatched.disk)) === 5;
      });
      await using second = harness.createVmm();
      // It may just be about to power off.
      await (await second.attach(record))?.exited;
      expect(await isRunning(record)).toBe(false);
      const crashed = await restored();
      process.kill(crashed.record.pid, 'SIGKILL');
      expect((await crashed.exited).reason).toBe('killed by SIGKILL');
      if (harness.takeMemory) {
        const starved = await restored();
        await harness.takeMemory(starved);
        // Where the limit takes hold at once, as in cgroup v2, it has ended before it goes on.
        await starved.resume().catch(() => undefined);
        expect((await starved.exited).reason).toMatch(/^out of memory: /);
      }
      const killed = await restored();
      await Promise.all([killed.kill(), killed.kill()]);
      await killed.kill();
      expect(await killed.exited).toEqual({ reason: 'killed', lastOutput: '' });
      expect(await harness.leftovers()).toEqual([]);
    });

    it('leaves nothing behind when a start fails or is cancelled', async () => {
      const broken = harness.breakSpec(await restoreSpec());
      await expect(vmm.restore(broken, saved, never)).rejects.toMatchObject({ name: 'AppError' });
      const damaged = path.join(saved.spec.runDirectory, '..', 'damaged-state');
      await writeFile(damaged, 'not a device state');
      await expect(vmm.restore(await restoreSpec(), { statePath: damaged }, never)).rejects.toThrow();
      await expect(vmm.restore(await restoreSpec(), saved, AbortSignal.abort())).rejects.toThrow();
      for (const delayMs of [1, 10, 30]) {
        const attempt = vmm.restore(await restoreSpec(), saved, AbortSignal.timeout(delayMs));
        // A machine that is fast enough finishes before the signal; its microVM is the caller's then.
        await attempt.then((vm) => vm.kill()).catch(() => undefined);
      }
      expect(await harness.leftovers()).toEqual([]);
    });

    it(`leaks nothing in ${leakRounds} rounds`, async () => {
      const descriptors = await openDescriptors();
      for (let round = 0; round < leakRounds; round++) {
        const vm = await restored();
        await vm.resume();
        await vm.kill();
        expect(await isRunning(vm.record)).toBe(false);
      }
      expect(await harness.leftovers()).toEqual([]);
      expect(await openDescriptors()).toBeLessThanOrEqual(descriptors + 2);
    });

    async function restored(): Promise<MicroVm> {
      return vmm.restore(await restoreSpec(), saved, never);
    }

    async function diskTick(layer: Layer): Promise<number> {
      return Number(/^tick (\d{8})/.exec(await harness.readDisk(layer))?.[1] ?? 0);
    }
  });
}

/** Offsets of the pages in which two images of one size are not the same. */
function differingPages(one: Buffer, other: Buffer): number[] {
  const offsets: number[] = [];
  for (let start = 0; start < one.length; start += pageBytes)
    if (one.compare(other, start, start + pageBytes, start, start + pageBytes) !== 0) offsets.push(start);
  return offsets;
}

async function fingerprint(file: string): Promise<{ size: number; mtimeMs: number }> {
  const { size, mtimeMs } = await stat(file);
  return { size, mtimeMs };
}

async function openDescriptors(): Promise<number> {
  return (await readdir('/proc/self/fd')).length;
}
