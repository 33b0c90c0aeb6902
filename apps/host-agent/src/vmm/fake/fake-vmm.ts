import { type ChildProcess, spawn } from 'node:child_process';
import { access, mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError, parseSafeName } from '@aviary/core';
import type { ChildEnd } from '@aviary/linux';
import { KeyedLock, waitFor, writeDurableFile } from '@aviary/service-kit';
import type { DiskLayer } from '../../disk/disk-store.ts';
import { lastOutputOf } from '../last-output.ts';
import { Cgroup } from '../process/cgroup.ts';
import { isRunning, killProcess, readProcessStat } from '../process/process-table.ts';
import { readTail, VmmProcess } from '../process/vmm-process.ts';
import { connectListening, type QmpClient, type QmpEvent } from '../qemu/qmp-client.ts';
import type { GuestPages, MachineSpec, MicroVm, SavedState, VmExit, Vmm, VmmIdentity, VmmRecord } from '../vmm.ts';
import type { FakeMachineConfig } from './fake-machine.ts';

export interface FakeVmmOptions {
  /** Holds a record per microVM: where strays are found, as the cgroup tree is for a real driver. */
  directory: string;
}

const machineScript = path.join(import.meta.dirname, 'fake-machine.ts');
/** What one message may carry, in base64. */
const overwriteBytes = 256 * 1024;
const startTimeoutMs = 10_000;

/**
 * A driver for tests: each microVM is a real, detached process without a guest kernel in it, so that starts, ends, kills and
 * attaching happen as they do with a VMM. It needs neither root nor QEMU, runs no code of users, and no setting selects it.
 */
export class FakeVmm implements Vmm {
  readonly name = 'fake';
  readonly #directory: string;
  readonly #live = new Map<string, FakeMicroVm>();

  constructor({ directory }: FakeVmmOptions) {
    this.#directory = directory;
  }

  async probe(): Promise<VmmIdentity> {
    return { vmm: 'fake', version: '1', machineType: 'fake', cpuModel: 'fake', accelerator: 'none' };
  }

  async boot(spec: MachineSpec, signal: AbortSignal): Promise<MicroVm> {
    const vm = await this.#start(spec, undefined, signal);
    await vm.resume();
    return vm;
  }

  async restore(spec: MachineSpec, { statePath, pages }: SavedState, signal: AbortSignal): Promise<MicroVm> {
    const vm = await this.#start(spec, statePath, signal);
    try {
      for await (const range of pages ?? []) await vm.overwrite(range);
      return vm;
    } catch (error) {
      await vm.kill();
      throw error;
    }
  }

  async attach(record: VmmRecord): Promise<MicroVm | undefined> {
    const known = this.#live.get(record.id);
    if (known && known.record.pid === record.pid && known.record.startTicks === record.startTicks) return known;
    if (await isRunning(record)) {
      try {
        return this.#adopt(await connectMachine(record));
      } catch (error) {
        if (await isRunning(record)) throw error;
      }
    }
    await rm(path.join(this.#directory, `${record.id}.json`), { force: true });
    return undefined;
  }

  async removeStrays(keep: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      if (!name.endsWith('.json') || keep.has(name.slice(0, -'.json'.length))) continue;
      const file = path.join(this.#directory, name);
      const identity = JSON.parse(await readFile(file, 'utf8')) as { pid: number; startTicks: string };
      await killProcess(identity);
      await waitFor({ what: 'the end of a stray', timeoutMs: 5_000 }, async () => !(await isRunning(identity)));
      await rm(file, { force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const vm of this.#live.values()) vm.letGo();
    this.#live.clear();
  }

  async #start(spec: MachineSpec, statePath: string | undefined, signal: AbortSignal): Promise<FakeMicroVm> {
    signal.throwIfAborted();
    const { id, memoryMib, kernelPath, kernelParameters, memoryPath, disk, runDirectory } = spec;
    const recordPath = path.join(this.#directory, `${parseSafeName(id, 'microVM')}.json`);
    if (this.#live.has(id)) throw new AppError('already_exists', `cannot start microVM ${id}: it runs already`);
    const socketPath = path.join(runDirectory, 'fake.sock');
    await rm(socketPath, { force: true });
    await mkdir(this.#directory, { recursive: true });
    const config: FakeMachineConfig = {
      ...{ memoryMib, kernelPath, kernelParameters, memoryPath, disk, socketPath },
      ...(statePath === undefined ? {} : { statePath }),
    };
    const child = await startMachine(config, path.join(runDirectory, 'vmm.log'));
    try {
      const pid = child.pid ?? 0;
      const { startTicks } = (await readProcessStat(pid)) ?? { startTicks: '' };
      await writeDurableFile(recordPath, JSON.stringify({ pid, startTicks }));
      await waitUntilUp({ child, config, logPath: path.join(runDirectory, 'vmm.log'), signal });
      const guestMemory = { path: memoryPath, mapping: statePath === undefined ? 'shared' : 'private' } as const;
      const machine = await connectMachine(
        { id, vmm: 'fake', pid, startTicks, socketPath, cgroupPaths: [], runDirectory, guestMemory },
        child,
      );
      return this.#adopt(machine);
    } catch (error) {
      child.kill('SIGKILL');
      await waitFor({ what: 'the end of a failed start', timeoutMs: 5_000 }, () => hasEnded(child));
      await rm(recordPath, { force: true });
      throw error;
    }
  }

  #adopt(machine: { record: VmmRecord; qmp: QmpClient; process: VmmProcess }): FakeMicroVm {
    const { id } = machine.record;
    const exited = machine.process.exited.then(async (exit) => {
      if (this.#live.get(id) === vm) this.#live.delete(id);
      await rm(path.join(this.#directory, `${id}.json`), { force: true });
      return exit;
    });
    const vm = new FakeMicroVm({ ...machine, exited });
    this.#live.set(id, vm);
    return vm;
  }
}

class FakeMicroVm implements MicroVm {
  readonly isOutOfSpace = false;
  readonly record: VmmRecord;
  readonly exited: Promise<VmExit>;
  readonly #qmp: QmpClient;
  readonly #process: VmmProcess;
  readonly #lock = new KeyedLock<'state'>();

  constructor(machine: { record: VmmRecord; qmp: QmpClient; process: VmmProcess; exited: Promise<VmExit> }) {
    this.record = machine.record;
    this.#qmp = machine.qmp;
    this.#process = machine.process;
    this.exited = machine.exited;
  }

  async pause(): Promise<void> {
    await this.#qmp.execute('stop');
  }

  async resume(): Promise<void> {
    await this.#qmp.execute('cont');
  }

  async saveState(statePath: string): Promise<void> {
    await this.#whilePaused('save', () => this.#qmp.execute('save-state', { path: statePath }));
  }

  /** Overwrites guest RAM before it runs. */
  async overwrite({ offset, data }: GuestPages): Promise<void> {
    for (let at = 0; at < data.length; at += overwriteBytes) {
      const piece = data.subarray(at, at + overwriteBytes).toString('base64');
      await this.#qmp.execute('write-memory', { offset: offset + at, data: piece });
    }
  }

  async dirtyPages(onRange: (range: GuestPages) => void | Promise<void>): Promise<void> {
    if (this.record.guestMemory.mapping === 'shared')
      throw new AppError('invalid_state', `microVM ${this.record.id} was booted: its memory file is complete`);
    await this.#whilePaused('read the dirty pages of', async () => {
      for (let from = 0; ; ) {
        const range = (await this.#qmp.execute('dirty-range', { from })) as { offset: number; data: string };
        if (range.data === '') return;
        const data = Buffer.from(range.data, 'base64');
        await onRange({ offset: range.offset, data });
        from = range.offset + data.length;
      }
    });
  }

  async flushDisk(): Promise<void> {
    await this.#whilePaused('flush the disk of', () => this.#qmp.execute('flush'));
  }

  async switchDisk(layer: DiskLayer): Promise<void> {
    await this.#whilePaused('switch the disk of', () => this.#qmp.execute('switch-disk', { ...layer }));
  }

  async diskPath(): Promise<string> {
    return String(await this.#qmp.execute('disk-path'));
  }

  async consoleTail(): Promise<string> {
    return String(await this.#qmp.execute('console'));
  }

  async kill(): Promise<void> {
    await this.#process.kill();
    await this.exited;
    this.#qmp.close();
    await rm(this.record.socketPath, { force: true });
  }

  /** Lets go of the machine, which runs on. */
  letGo(): void {
    this.#process.letGo();
    this.#qmp.close();
  }

  async #whilePaused(verb: string, work: () => Promise<unknown>): Promise<void> {
    await this.#lock.run('state', async () => {
      const { running } = (await this.#qmp.execute('query-status')) as { running?: unknown };
      if (running !== false)
        throw new AppError('invalid_state', `cannot ${verb} microVM ${this.record.id}: pause it first`);
      await work();
    });
  }
}

async function connectMachine(
  record: VmmRecord,
  child?: ChildProcess,
): Promise<{ record: VmmRecord; qmp: QmpClient; process: VmmProcess }> {
  let vmmProcess: VmmProcess | undefined;
  const onEvent = ({ event, data }: QmpEvent) => {
    if (event === 'SHUTDOWN')
      vmmProcess?.noteGuestEnd({ reason: String(data['reason']), lastOutput: lastOutputOf(String(data['console'])) });
  };
  const qmp = await connectListening(record.socketPath, { onEvent, timeoutMs: startTimeoutMs });
  const { pid, startTicks, runDirectory } = record;
  vmmProcess = new VmmProcess({
    ...{ pid, startTicks, cgroup: new Cgroup([]), disconnected: qmp.closed },
    logPath: path.join(runDirectory, 'vmm.log'),
    ...(child ? { ended: endOfChild(child) } : {}),
  });
  return { record, qmp, process: vmmProcess };
}

async function startMachine(config: FakeMachineConfig, logPath: string): Promise<ChildProcess> {
  await using log = await open(logPath, 'w', 0o600);
  const child = spawn(process.execPath, [machineScript, JSON.stringify(config)], {
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
    env: {},
  });
  await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject));
  child.unref();
  return child;
}

async function waitUntilUp({
  child,
  config,
  logPath,
  signal,
}: {
  child: ChildProcess;
  config: FakeMachineConfig;
  logPath: string;
  signal: AbortSignal;
}): Promise<void> {
  await waitFor(
    { what: 'the start of the fake machine', timeoutMs: startTimeoutMs, intervalMs: 5, signal },
    async () => {
      if (hasEnded(child)) throw new AppError('internal', `the VMM did not start: ${(await readTail(logPath)).trim()}`);
      return access(config.socketPath).then(
        () => true,
        () => false,
      );
    },
  );
}

function endOfChild(child: ChildProcess): Promise<ChildEnd> {
  const { exitCode, signalCode } = child;
  if (hasEnded(child)) return Promise.resolve({ code: exitCode, signal: signalCode });
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
