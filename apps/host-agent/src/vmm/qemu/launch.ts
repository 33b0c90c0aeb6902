import { constants } from 'node:fs';
import { access, open, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorText } from '@aviary/core';
import type { ChildEnd } from '@aviary/linux';
import { type FaultPoints, waitFor } from '@aviary/service-kit';
import { type CgroupLayout, type CgroupLimits, createCgroup } from '../process/cgroup.ts';
import { readProcessStat } from '../process/process-table.ts';
import type { StartedProcess, Starter, StartRequest } from '../process/starter.ts';
import { readTail, VmmProcess } from '../process/vmm-process.ts';
import type { VmmRecord } from '../vmm.ts';
import { type Accelerator, type Architecture, type Machine, qemuArguments, translationCacheMib } from './arguments.ts';
import { connectListening, maxSocketPathBytes, type QmpClient, type QmpEvent } from './qmp-client.ts';

/** What every QEMU of this host is started with. */
export interface LaunchSettings {
  architecture: Architecture;
  cgroupLayout: CgroupLayout;
  /** Name of the cgroup that holds all microVMs. */
  cgroupParent: string;
  /** QEMU itself. Absolute. */
  program: string;
  starter: Starter;
  faults: FaultPoints;
  /** Longest time from the start of the process to its control socket's greeting. */
  startTimeoutMs: number;
  tscKhz: number | undefined;
  /** See `ArgumentOptions`. */
  cpuModel: string | undefined;
}

export interface LaunchRequest {
  id: string;
  machine: Machine;
  accelerator: Accelerator;
  mapping: 'shared' | 'private';
  isIncoming: boolean;
  uid: number;
  gid: number;
  runDirectory: string;
}

/** A QEMU that is confined and whose vCPUs are stopped. */
export interface Launched {
  record: VmmRecord;
  qmp: QmpClient;
  process: VmmProcess;
  /** Where what it says goes; it is to be set before the vCPUs run. */
  events: EventSink;
}

/** How long a VMM that has dropped its control connection may take to end. */
const endOfFailedStartMs = 1_000;
/** QEMU's own memory beside the guest's: device buffers, stacks, page tables, the block layer's caches. */
const overheadMib = 256;
/** Device emulation beside the vCPUs, in hundredths of a CPU. */
const emulationCpuPercent = 25;
/** QEMU's I/O workers (64 at most) and its own threads. */
const overheadTasks = 128;

/** Limits for a microVM: guest RAM, vCPUs and threads, each with what the VMM needs besides. */
function limitsFor({ vcpus, memoryMib }: { vcpus: number; memoryMib: number }): CgroupLimits {
  return {
    memoryBytes: (memoryMib + translationCacheMib + overheadMib) * 1024 * 1024,
    cpuPercent: vcpus * 100 + emulationCpuPercent,
    maxTasks: vcpus + overheadTasks,
  };
}

/**
 * Starts QEMU detached from this process: in its own cgroup before it runs, under an unprivileged identity, without capabilities, with seccomp,
 * in its own mount, pid, IPC and UTS namespaces and the slot's network namespace. It sees of the host's files what {@link visibleFiles} says.
 * Nothing is left behind when it fails or `signal` aborts.
 */
export async function launchQemu(
  settings: LaunchSettings,
  request: LaunchRequest,
  signal: AbortSignal,
): Promise<Launched> {
  signal.throwIfAborted();
  const { id, machine, runDirectory } = request;
  const socketPath = path.join(runDirectory, 'qmp.sock');
  const logPath = path.join(runDirectory, 'vmm.log');
  if (Buffer.byteLength(socketPath) > maxSocketPathBytes) {
    throw new AppError(
      'invalid_request',
      `cannot start microVM ${id}: the path ${socketPath} is longer than the ${maxSocketPathBytes} bytes of a socket address; use a shorter data directory`,
    );
  }
  await rm(socketPath, { force: true });
  const { cgroupLayout: layout, cgroupParent: parent, starter, faults } = settings;
  const cgroup = await createCgroup(layout, { parent, id, limits: limitsFor(machine) });
  const events: EventSink = {};
  let started: StartedProcess | undefined;
  try {
    started = await withLog(logPath, async (logFd) =>
      starter.start({
        ...(await startRequest(settings, { ...request, socketPath })),
        logFd,
        place: async (pid) => {
          await faults.hit('vmm.before-placement');
          await cgroup.add(pid);
          await faults.hit('vmm.after-placement');
        },
      }),
    );
    const { pid } = started;
    const stat = await readProcessStat(pid);
    if (!stat) throw new AppError('internal', 'cannot find the VMM that has just started: it ended at once');
    const { startTicks } = stat;
    const child = watchChild(started);
    const qmp = await connectWhenUp({ child, socketPath, logPath, timeoutMs: settings.startTimeoutMs, signal, events });
    const vmmProcess = new VmmProcess({
      pid,
      startTicks,
      cgroup,
      logPath,
      disconnected: qmp.closed,
      ended: started.ended,
    });
    const guestMemory = { path: machine.memoryPath, mapping: request.mapping };
    const cgroupPaths = cgroup.paths;
    const record: VmmRecord = { id, vmm: 'qemu', pid, startTicks, socketPath, cgroupPaths, runDirectory, guestMemory };
    return { record, qmp, process: vmmProcess, events };
  } catch (error) {
    await cgroup.remove();
    await rm(socketPath, { force: true });
    throw error;
  } finally {
    started?.finishStart();
  }
}

/** Events that come before anybody listens are dropped. */
export interface EventSink {
  onEvent?: (event: QmpEvent) => void;
}

async function startRequest(
  { program, ...settings }: LaunchSettings,
  request: LaunchRequest & { socketPath: string },
): Promise<Omit<StartRequest, 'logFd' | 'place'>> {
  const { machine, accelerator, mapping, uid, gid } = request;
  const { network } = machine;
  return {
    file: program,
    args: qemuArguments(machine, { ...settings, ...request }),
    ...(network ? { networkNamespace: `/run/netns/${network.namespace}` } : {}),
    visible: visibleFiles(request),
    // QEMU asks to write the file of a private mapping as well (its `file_ram_open`), which it never does.
    readOnlyOpens: mapping === 'private' ? [machine.memoryPath] : [],
    credentials: { uid, gid, groups: accelerator === 'kvm' ? await kvmGroups() : [] },
  };
}

/**
 * What one QEMU sees of the host's files, at their own paths: it may write its run directory, the directory of its disk layer, where later ones
 * are made, and, booting, its memory.
 */
function visibleFiles({ machine, mapping, runDirectory }: LaunchRequest): StartRequest['visible'] {
  const { disk, toolboxPath, memoryPath } = machine;
  const ownMemory = mapping === 'shared' && path.dirname(memoryPath) !== runDirectory ? [memoryPath] : [];
  const written = [runDirectory, ...(disk ? [path.dirname(disk.path)] : []), ...ownMemory];
  const read = [
    ...[machine.kernelPath, machine.initramfsPath, ...(toolboxPath === undefined ? [] : [toolboxPath])],
    ...(disk?.bases ?? []),
  ];
  return [
    ...written.map((each) => ({ path: each, isWritable: true })),
    ...read.map((each) => ({ path: each, isWritable: false })),
  ];
}

/** The group that /dev/kvm is open to, when it is open to one that is not root's. */
async function kvmGroups(): Promise<number[]> {
  const { gid, mode } = await stat('/dev/kvm');
  return gid !== 0 && (mode & 0o060) === 0o060 ? [gid] : [];
}

/** The directory belongs to the VMM's identity: a link that an earlier VMM left there is not followed. */
async function withLog<T>(logPath: string, work: (fd: number) => Promise<T>): Promise<T> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND | constants.O_NOFOLLOW;
  await using log = await open(logPath, flags, 0o600);
  return await work(log.fd);
}

/** A process's end so far, and why a call of it was not answered as it should have been. */
interface WatchedChild extends Pick<StartedProcess, 'failure'> {
  end?: ChildEnd;
}

function watchChild({ ended, failure }: StartedProcess): WatchedChild {
  const watched: WatchedChild = { failure };
  void ended.then((end) => {
    watched.end = end;
  });
  return watched;
}

async function connectWhenUp(options: {
  child: WatchedChild;
  socketPath: string;
  logPath: string;
  timeoutMs: number;
  signal: AbortSignal;
  events: EventSink;
}): Promise<QmpClient> {
  const { child, socketPath, logPath, timeoutMs, signal, events } = options;
  const hasEnded = () => child.end !== undefined;
  try {
    await waitFor({ what: "the start of the VMM's control socket", timeoutMs, intervalMs: 2, signal }, async () => {
      if (hasEnded()) throw new AppError('internal', 'the VMM ended before it had a control socket');
      return access(socketPath).then(
        () => true,
        () => false,
      );
    });
    return await connectListening(socketPath, { timeoutMs, onEvent: (event) => events.onEvent?.(event) });
  } catch (error) {
    signal.throwIfAborted();
    // A VMM that cannot start drops the connection an instant before it ends, and its log says why.
    const end = { what: 'the end of the VMM', timeoutMs: endOfFailedStartMs, signal };
    await waitFor(end, hasEnded).catch(() => undefined);
    if (!hasEnded()) throw error;
    const failure = child.failure();
    if (failure !== undefined)
      throw new AppError('internal', `the VMM did not start: ${errorText(failure)}`, { cause: failure });
    const log = (await readTail(logPath)).trim() || 'it gave no reason';
    const how = child.end?.signal ?? `exit code ${child.end?.code}`;
    throw new AppError('internal', `the VMM did not start (${how}): ${log}`, { cause: error });
  }
}
