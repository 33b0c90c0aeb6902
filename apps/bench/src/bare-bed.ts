import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { must } from '@aviary/core';
import { createSlotPool, type NetworkSlot, type PrebuiltSlotPool } from '@aviary/host-agent/testing';
import { type ImageSet, loadImages } from '@aviary/images';
import { silentLogger } from '@aviary/service-kit';
import { type BareVm, createBareDisk, saveBareVm, startBareVm } from './bare-vmm.ts';

/** A bare microVM's state, saved by hand. */
export interface BareState {
  statePath: string;
  memoryPath: string;
  diskPath: string;
}

/** A bare microVM with the files that it writes. */
export type BootedBareVm = BareVm & { memoryPath: string; diskPath: string };

export interface Timed<T> {
  value: T;
  ms: number;
}

/** Where bare microVMs run: a directory and network slots of their own, and all that was started there ends with it. */
export class BareBed implements AsyncDisposable {
  readonly slots: PrebuiltSlotPool;
  readonly directory: string;
  readonly #images: ImageSet;
  readonly #accelerator: string;
  readonly #running = new Set<BareVm>();
  #count = 0;

  private constructor(parts: { images: ImageSet; directory: string; slots: PrebuiltSlotPool; accelerator: string }) {
    this.#images = parts.images;
    this.directory = parts.directory;
    this.slots = parts.slots;
    this.#accelerator = parts.accelerator;
  }

  static async open({ imagesFrom, accelerator }: { imagesFrom: string; accelerator: string }): Promise<BareBed> {
    const images = must(await loadImages(imagesFrom), 'its caller has built them');
    const directory = await mkdtemp(path.join(os.tmpdir(), 'aviary-bare-'));
    const prefix = `f${process.pid.toString(36).slice(-3)}`;
    const slots = createSlotPool({ logger: silentLogger }, { prefix, size: 2, maxSlots: 64, firstIndex: 20_000 });
    await slots.reclaim(new Set());
    return new BareBed({ images, directory, slots, accelerator });
  }

  /** Boots a microVM; the time is from its start to its first command's answer. */
  async boot(): Promise<Timed<BootedBareVm>> {
    const place = await this.#place({ path: this.#images.minimal.rootfsPath, format: 'raw' });
    const memoryPath = path.join(this.directory, `${place.name}.mem`);
    const { value, ms } = await this.#start({ ...place, memoryPath });
    return { value: Object.assign(value, { memoryPath, diskPath: place.diskPath }), ms };
  }

  /** Restores a microVM on a disk layer of its own; the time is from its start to its first command's answer. */
  async restore(state: BareState): Promise<Timed<BareVm>> {
    const place = await this.#place({ path: state.diskPath, format: 'qcow2' });
    return this.#start({ ...place, memoryPath: state.memoryPath, statePath: state.statePath });
  }

  /** Saves a booted microVM and ends it. */
  async saveAndEnd(vm: BootedBareVm): Promise<BareState> {
    const statePath = path.join(this.directory, `state-${this.#count++}`);
    await saveBareVm(vm, { statePath, memoryPath: vm.memoryPath });
    await vm.kill();
    return { statePath, memoryPath: vm.memoryPath, diskPath: vm.diskPath };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const vm of this.#running) await vm.kill();
    await this.slots[Symbol.asyncDispose]();
    await this.slots.reclaim(new Set());
    await rm(this.directory, { recursive: true, force: true });
  }

  async #place(base: { path: string; format: 'raw' | 'qcow2' }) {
    const name = `bare-${this.#count++}`;
    const slot = await this.slots.acquire();
    return { name, slot, diskPath: await createBareDisk(path.join(this.directory, `${name}.qcow2`), base) };
  }

  async #start(place: {
    name: string;
    slot: NetworkSlot;
    diskPath: string;
    memoryPath: string;
    statePath?: string;
  }): Promise<Timed<BareVm>> {
    const startedAt = performance.now();
    const { directory } = this;
    const vm = await startBareVm({ images: this.#images, accelerator: this.#accelerator, directory, ...place });
    const ms = performance.now() - startedAt;
    const { kill } = vm;
    vm.kill = async () => {
      if (!this.#running.delete(vm)) return;
      await kill();
      await this.slots.release(place.slot);
    };
    this.#running.add(vm);
    return { value: vm, ms };
  }
}
