import { copyFile, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AppError, minimalTemplateId, newId, platformTeamId, type SandboxId } from '@aviary/core';
import type { ImageSet } from '@aviary/images';
import { type FaultName, FaultPoints, silentLogger, systemClock } from '@aviary/service-kit';
import type { DiskLayer, DiskStore } from '../disk/disk-store.ts';
import { GarbageCollector } from '../generations/garbage-collector.ts';
import { GenerationStore } from '../generations/generation-store.ts';
import { ResumePreparer } from '../generations/resume-preparer.ts';
import { AttachedCommands } from '../guest/attached-commands.ts';
import type { GuestClient } from '../guest/guest-client.ts';
import { HostLayout } from '../layout.ts';
import type { NetworkSlot, SlotPool } from '../network/network-slot.ts';
import { SandboxJournal } from '../registry/sandbox-journal.ts';
import { rootsOf } from '../registry/sandbox-record.ts';
import { SandboxRegistry } from '../registry/sandbox-registry.ts';
import { BootSnapshots } from '../starts/boot-snapshots.ts';
import { WarmPool } from '../starts/warm-pool.ts';
import { TemplateStore } from '../templates/template-store.ts';
import { FakeVmm } from '../vmm/fake/fake-vmm.ts';
import type { CreateSandboxOptions } from './create-sandbox.ts';
import { recoverSandboxes } from './recover-sandboxes.ts';
import type { SandboxServices } from './sandbox-services.ts';

const nothing = async () => undefined;

/** By the layer's inode: a layer keeps it when it becomes a generation's, and when another agent finds it. */
const layersBelow = new Map<number, DiskLayer[]>();

/** Layers as whole copies: what a store promises, at a size that only tests bear. */
class CopyingDiskStore implements DiskStore {
  readonly name = 'qcow2';
  readonly maxLayers = 8;

  layerAt(file: string): DiskLayer {
    return { path: file, format: 'raw' };
  }
  async createLayer({ path: file, base }: { path: string; base: DiskLayer }): Promise<DiskLayer> {
    await copyFile(base.path, file);
    layersBelow.set((await stat(file)).ino, [base, ...(await this.chain(base))]);
    return this.layerAt(file);
  }
  sync = nothing;
  freeze = nothing;
  async allocatedBytes(): Promise<number> {
    return 0;
  }
  async virtualSizeMib(): Promise<number> {
    return 1;
  }
  async chain({ path: file }: DiskLayer): Promise<DiskLayer[]> {
    return layersBelow.get((await stat(file)).ino) ?? [];
  }
  async flatten({ layer, path: file }: { layer: DiskLayer; path: string }): Promise<DiskLayer> {
    return this.createLayer({ path: file, base: layer });
  }
  async remove({ path: file }: DiskLayer): Promise<void> {
    await rm(file, { force: true });
  }
}

/** Slots without a kernel behind them. */
class FakeSlots implements SlotPool {
  readonly ready = 1;
  readonly taken = new Set<number>();

  async acquire(): Promise<NetworkSlot> {
    for (let index = 1; ; index++) if (!this.taken.has(index)) return this.adopt(index);
  }
  async adopt(index: number): Promise<NetworkSlot> {
    this.taken.add(index);
    const guestMac = '02:00:00:00:00:01';
    return { index, namespace: 'none', tapName: 'none', hostAddress: `guest-${index}`, guestMac, uid: 0 };
  }
  async release({ index }: NetworkSlot): Promise<void> {
    this.taken.delete(index);
  }
  reclaim = nothing;
  [Symbol.asyncDispose] = nothing;
}

/** Notes which points were come by, so that a test can tell that a command hangs where it is to. */
class NotedFaults extends FaultPoints {
  readonly reached = new Set<FaultName>();

  override async hit(name: FaultName): Promise<void> {
    this.reached.add(name);
    await super.hit(name);
  }
}

/** What a test can have guests do, and sees of what they were asked. */
export interface FakeGuests {
  calls: string[];
  /** Guests do not answer. */
  isSilent: boolean;
  /** Called when a guest is told who it is. */
  onInit?: () => void;
  /** Called when a guest has frozen. */
  onFreeze?: () => Promise<void>;
}

function fakeGuest(guests: FakeGuests): GuestClient {
  const answer = (name: string) => async () => {
    guests.calls.push(name);
    if (guests.isSilent) throw new AppError('deadline_exceeded', `${name} did not finish`);
  };
  const end = () => undefined;
  const commands = {
    async *run() {
      yield { event: { case: 'start', value: { pid: 1 } } };
      yield { event: { case: 'end', value: { exitCode: 0 } } };
    },
  };
  const attached = new AttachedCommands();
  const init = async () => {
    await answer('init')();
    guests.onInit?.();
    return '';
  };
  const freeze = async () => {
    await answer('freeze')();
    await guests.onFreeze?.();
  };
  const guest = {
    ...{ init, freeze, commands, attached, waitHealthy: answer('health'), thaw: answer('thaw') },
    ...{ isHealthy: async () => !guests.isSilent },
    ...{
      useTokens: end,
      closeConnections: end,
      closeIdleConnections: end,

      [Symbol.dispose]: end,
    },
  };
  return guest as unknown as GuestClient;
}

/** A host without guests: the real commands, journal and saved states over fake microVMs, which are processes of their own. */
export interface FakeHost extends AsyncDisposable {
  services: SandboxServices;
  guests: FakeGuests;
  slots: FakeSlots;
  layout: HostLayout;
  /** Fault points that this agent has come by. */
  reached: ReadonlySet<FaultName>;
  /** Events told to the control plane, in order. */
  told: string[];
  /** The end of this agent and the start of the next one on the same host: nothing of the old one's memory is left. */
  restart(options?: { fault?: string; meanwhile?: () => Promise<unknown> }): Promise<void>;
  /** Names of what is on the disk of runs and records. */
  holdings(): Promise<{ journal: string[]; sandboxes: string[] }>;
  request(sandboxId?: SandboxId): CreateSandboxOptions;
}

export async function startFakeHost(): Promise<FakeHost> {
  const directory = await mkdtemp(path.join(tmpdir(), 'fh-'));
  const layout = new HostLayout(directory);
  const images = await makeImages(layout);
  const machines = path.join(directory, 'machines');
  await mkdir(machines);
  const guests: FakeGuests = { calls: [], isSilent: false };
  const told: string[] = [];
  let quietMs = 0;
  const start = async (fault?: string) => {
    const slots = new FakeSlots();
    const faults = new NotedFaults(fault);
    const journal = new SandboxJournal(layout.journalDirectory);
    await journal.open();
    const events = { push: async (name: string) => void told.push(name), sequence: 0 };
    const clock = systemClock;
    const logger = silentLogger;
    const registry = new SandboxRegistry({ journal, clock, events, logger });
    const vmm = new FakeVmm({ directory: machines });
    const generations = await GenerationStore.open({ layout, clock, logger, faults });
    const templates = new TemplateStore({ layout, faults });
    await templates.open();
    const deps = {
      ...{ registry, vmm, identity: await vmm.probe(), disks: new CopyingDiskStore(), generations, slots },
      ...{ images, layout, faults, logger, connectGuest: () => fakeGuest(guests) },
    };
    const bootSnapshots = new BootSnapshots(deps);
    await bootSnapshots.open();
    const garbage = new GarbageCollector({ generations }, [
      () => registry.list().flatMap(({ record }) => rootsOf(record)),
      () => bootSnapshots.gcRoots(),
    ]);
    const preparer = new ResumePreparer({ generations, logger });
    const warmPool = new WarmPool({ ...deps, bootSnapshots }, { size: 1, now: () => (quietMs += 1_000) });
    const services: SandboxServices = { ...deps, templates, bootSnapshots, warmPool, garbage, preparer };
    await recoverSandboxes(services, journal);
    return { services, slots, vmm, faults };
  };
  let agent = await start();
  return {
    ...{ guests, layout, told },
    get services() {
      return agent.services;
    },
    get reached() {
      return agent.faults.reached;
    },
    get slots() {
      return agent.slots;
    },
    async restart({ fault, meanwhile = nothing } = {}) {
      await agent.services.preparer[Symbol.asyncDispose]();
      await agent.vmm[Symbol.asyncDispose]();
      await meanwhile();
      agent = await start(fault);
    },
    holdings: async () => ({
      journal: await readdir(layout.journalDirectory),
      sandboxes: await readdir(layout.sandboxesDirectory),
    }),
    request: (sandboxId = newId('sandbox')) => ({
      ...{ sandboxId, operationId: newId('operation'), teamId: newId('team') },
      template: { teamId: platformTeamId, templateId: minimalTemplateId },
      ...{ vcpus: 1, memoryMib: 256, diskMib: 5_120, timeoutSec: 60, defaultUser: '', envs: {} },
    }),
    async [Symbol.asyncDispose]() {
      await agent.services.preparer[Symbol.asyncDispose]();
      await agent.vmm.removeStrays(new Set());
      await agent.vmm[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function makeImages(layout: HostLayout): Promise<ImageSet> {
  for (const directory of [layout.imagesDirectory, layout.sandboxesDirectory])
    await mkdir(directory, { recursive: true });
  const file = path.join(layout.imagesDirectory, 'file');
  await writeFile(file, 'image');
  const id = 'a'.repeat(64);
  await writeFile(layout.toolbox(id), '');
  return {
    ...{ kernel: { path: file, version: 'k' }, initramfs: { path: file, id: 'i' } },
    ...{ toolbox: { path: layout.toolbox(id), id }, minimal: { rootfsPath: file, sizeMib: 1, id: 'm' } },
  };
}
