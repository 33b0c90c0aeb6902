import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { readTscKhz } from '@aviary/linux/tsc';
import { FaultPoints, waitFor } from '@aviary/service-kit';
import { Cgroup, listCgroups, readCgroupLayout } from '../process/cgroup.ts';
import { isRunning, killProcess, listProcesses, readProcessStat } from '../process/process-table.ts';
import { Starter } from '../process/starter.ts';
import { VmmProcess } from '../process/vmm-process.ts';
import { writePages } from '../process/write-pages.ts';
import type { MachineSpec, MicroVm, SavedState, Vmm, VmmIdentity, VmmRecord } from '../vmm.ts';
import { type Architecture, isQemuBelow } from './arguments.ts';
import { type EventSink, type Launched, type LaunchSettings, launchQemu } from './launch.ts';
import { type ProbeOptions, probeQemu } from './probe.ts';
import { findQemuFiles } from './program-files.ts';
import { QemuMicroVm } from './qemu-micro-vm.ts';
import { QmpClient } from './qmp-client.ts';
import { loadState } from './restore.ts';

export interface QemuVmmOptions {
  probe: ProbeOptions;
  /** Every run directory lies below it, and none of anybody else's. */
  dataDirectory: string;
  /** For mounts in a namespace of the driver's own; it stays empty. Made when it is missing. */
  workDirectory: string;
  faults?: FaultPoints;
  /** Name of the cgroup that holds all microVMs. Default `aviary`. */
  cgroupParent?: string;
  /** QEMU's name of a processor model for guests under KVM, e.g. `EPYC`. Default: the host's own processor. */
  cpuModel?: string;
  /** Longest start of a VMM process, on a machine with much to do. Default 30 000. */
  startTimeoutMs?: number;
}

const strayEndTimeoutMs = 10_000;

/** Drives QEMU's `microvm` machine (`virt` on arm64), with KVM where it works and software CPUs elsewhere. Needs root. */
export class QemuVmm implements Vmm {
  readonly name = 'qemu';
  readonly #options: QemuVmmOptions;
  readonly #live = new Map<string, QemuMicroVm>();
  #settings: Promise<LaunchSettings> | undefined;
  #starter: Starter | undefined;
  #identity: Promise<VmmIdentity> | undefined;

  constructor(options: QemuVmmOptions) {
    this.#options = options;
  }

  async probe(signal: AbortSignal): Promise<VmmIdentity> {
    // A failed or cancelled probe is no answer: the next caller asks anew.
    this.#identity ??= this.#loadSettings()
      .then(async (settings) => {
        await settings.starter.prepare();
        return probeQemu(settings, this.#options.probe, signal);
      })
      .catch((error: unknown) => {
        this.#identity = undefined;
        throw error;
      });
    return this.#identity;
  }

  async boot(spec: MachineSpec, signal: AbortSignal): Promise<MicroVm> {
    return this.#start({ spec, mapping: 'shared', signal }, (vm) => vm.resume());
  }

  async restore(spec: MachineSpec, { statePath, pages }: SavedState, signal: AbortSignal): Promise<MicroVm> {
    const { runDirectory, memoryPath } = spec;
    return this.#start({ spec, mapping: 'private', signal }, async ({ record: { pid } }, { qmp }) => {
      // RAM comes first, as in a migration: devices look at their queues in it while they load (QEMU's virtio_load).
      if (pages) await writePages({ pid, file: memoryPath }, pages);
      signal.throwIfAborted();
      await loadState(qmp, { statePath, runDirectory }, signal);
    });
  }

  async attach(record: VmmRecord): Promise<MicroVm | undefined> {
    const known = this.#live.get(record.id);
    if (known && known.record.pid === record.pid && known.record.startTicks === record.startTicks) return known;
    const cgroup = new Cgroup(record.cgroupPaths);
    const { pid, startTicks } = record;
    if (await isRunning(record)) {
      try {
        const events: EventSink = {};
        const qmp = await QmpClient.connect(record.socketPath, { onEvent: (event) => events.onEvent?.(event) });
        const logPath = path.join(record.runDirectory, 'vmm.log');
        const process = new VmmProcess({ pid, startTicks, cgroup, logPath, disconnected: qmp.closed });
        const vm = this.#adopt({ record, qmp, process, events });
        if (!(await vm.hasGuestEnded())) {
          await vm.findOutOfSpace();
          return vm;
        }
        await vm.endAfterGuest();
        await vm.exited;
        return undefined;
      } catch (error) {
        // A VMM that ends while it is asked is gone; one that lives but does not answer is the caller's to kill.
        if (await isRunning(record)) throw error;
      }
    }
    // What is left in the cgroup of a dead VMM is a leftover too.
    await cgroup.remove();
    return undefined;
  }

  async removeStrays(keep: ReadonlySet<string>): Promise<void> {
    const { cgroupLayout, cgroupParent } = await this.#loadSettings();
    const kept = new Set<number>();
    for (const { record } of this.#live.values()) if (keep.has(record.id)) kept.add(record.pid);
    for (const [id, cgroup] of await listCgroups(cgroupLayout, cgroupParent)) {
      if (!keep.has(id)) await cgroup.remove();
      else for (const pid of await cgroup.processIds()) kept.add(pid);
    }
    // By what they are as well: a cgroup may have been removed by others, or belong to a parent of another name.
    for await (const { pid, args } of listProcesses()) {
      if (kept.has(pid) || !isQemuBelow(this.#options.dataDirectory, args)) continue;
      const stat = await readProcessStat(pid);
      if (stat) await endProcess({ pid, startTicks: stat.startTicks });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const vm of this.#live.values()) vm.letGo();
    this.#live.clear();
    await this.#starter?.[Symbol.asyncDispose]();
  }

  async #start(
    { spec, mapping, signal }: { spec: MachineSpec; mapping: 'shared' | 'private'; signal: AbortSignal },
    prepare: (vm: QemuMicroVm, launched: Launched) => Promise<void>,
  ): Promise<MicroVm> {
    if (this.#live.has(spec.id))
      throw new AppError('already_exists', `cannot start microVM ${spec.id}: it runs already`);
    const { accelerator } = await this.probe(signal);
    if (accelerator === 'none') throw new AppError('internal', 'QEMU has an accelerator on every machine');
    const settings = await this.#loadSettings();
    const { id, uid, gid, runDirectory } = spec;
    const isIncoming = mapping === 'private';
    const launched = await launchQemu(
      settings,
      { id, machine: spec, accelerator, mapping, isIncoming, uid, gid, runDirectory },
      signal,
    );
    const vm = this.#adopt(launched);
    try {
      await prepare(vm, launched);
      signal.throwIfAborted();
      return vm;
    } catch (error) {
      await vm.kill();
      throw error;
    }
  }

  #adopt(launched: Launched): QemuMicroVm {
    const vm = new QemuMicroVm(launched);
    const { id } = vm.record;
    this.#live.set(id, vm);
    void vm.exited.then(() => {
      if (this.#live.get(id) === vm) this.#live.delete(id);
    });
    return vm;
  }

  #loadSettings(): Promise<LaunchSettings> {
    this.#settings ??= this.#readSettings();
    return this.#settings;
  }

  async #readSettings(): Promise<LaunchSettings> {
    const {
      cgroupParent = 'aviary',
      startTimeoutMs = 30_000,
      cpuModel,
      workDirectory,
      faults = new FaultPoints(),
    } = this.#options;
    const architecture = hostArchitecture();
    const tscKhz = architecture === 'x64' ? await readTscKhz() : undefined;
    const { program, files, devices } = await findQemuFiles(architecture);
    await mkdir(workDirectory, { recursive: true, mode: 0o700 });
    this.#starter ??= new Starter({ programFiles: files, devices, workDirectory });
    return {
      ...{ architecture, cgroupLayout: await readCgroupLayout(), cgroupParent, startTimeoutMs, tscKhz, cpuModel },
      ...{ program, starter: this.#starter, faults },
    };
  }
}

function hostArchitecture(): Architecture {
  const { arch } = process;
  if (arch === 'x64' || arch === 'arm64') return arch;
  throw new AppError('host_unavailable', `cannot run microVMs on ${arch}: x86-64 and arm64 hosts are supported`);
}

/** Kills a process and resolves when it has ended. */
async function endProcess(identity: { pid: number; startTicks: string }): Promise<void> {
  await killProcess(identity);
  const what = `the end of process ${identity.pid}`;
  await waitFor({ what, timeoutMs: strayEndTimeoutMs, intervalMs: 10 }, async () => !(await isRunning(identity)));
}
