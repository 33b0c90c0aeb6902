import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, open, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { type Cgroup, type CgroupLayout, type CgroupLimits, createCgroup } from '../process/cgroup.ts';
import { isGone, readProcessStat } from '../process/process-table.ts';
import { readTail, VmmProcess } from '../process/vmm-process.ts';
import type { VmmRecord } from '../vmm.ts';
import {
  type Accelerator,
  type Architecture,
  architectures,
  type Machine,
  qemuArguments,
  translationCacheMib,
} from './arguments.ts';
import { connectListening, maxSocketPathBytes, type QmpClient, type QmpEvent } from './qmp-client.ts';

/** What every QEMU of this host is started with. */
export interface LaunchSettings {
  architecture: Architecture;
  cgroupLayout: CgroupLayout;
  /** Name of the cgroup that holds all microVMs. */
  cgroupParent: string;
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
/** QEMU's I/O workers (64 at most), its own threads, and the wrapper. */
const overheadTasks = 128;

/** Limits for a microVM: guest RAM, vCPUs and threads, each with what the VMM needs besides. */
export function limitsFor({ vcpus, memoryMib }: { vcpus: number; memoryMib: number }): CgroupLimits {
  return {
    memoryBytes: (memoryMib + translationCacheMib + overheadMib) * 1024 * 1024,
    cpuPercent: vcpus * 100 + emulationCpuPercent,
    maxTasks: vcpus + overheadTasks,
  };
}

/**
 * Starts QEMU detached from this process, with an unprivileged identity, no capabilities, seccomp, its own mount, pid, IPC and
 * UTS namespaces, in the slot's network namespace and its own cgroup. Nothing is left behind when it fails or `signal` aborts.
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
  const { cgroupLayout: layout, cgroupParent: parent } = settings;
  const cgroup = await createCgroup(layout, { parent, id, limits: limitsFor(machine) });
  let child: ChildProcess | undefined;
  const events: EventSink = {};
  try {
    child = await startDetached(await commandLine(settings, { ...request, socketPath }), logPath);
    const wrapperPid = child.pid ?? 0;
    await cgroup.add(wrapperPid);
    const qmp = await connectWhenUp({ child, socketPath, logPath, timeoutMs: settings.startTimeoutMs, signal, events });
    try {
      const { pid, startTicks } = await findVmm(wrapperPid, cgroup);
      const vmmProcess = new VmmProcess({ pid, startTicks, cgroup, logPath, disconnected: qmp.closed, child });
      const guestMemory = { path: machine.memoryPath, mapping: request.mapping };
      const record: VmmRecord = {
        id,
        vmm: 'qemu',
        pid,
        startTicks,
        socketPath,
        cgroupPaths: cgroup.paths,
        runDirectory,
        guestMemory,
      };
      return { record, qmp, process: vmmProcess, events };
    } catch (error) {
      qmp.close();
      throw error;
    }
  } catch (error) {
    child?.kill('SIGKILL');
    await cgroup.remove();
    await rm(socketPath, { force: true });
    // What is killed or crashes before it is confined shows only in calls on a process that is not there.
    if (!child || !isGone(error)) throw error;
    throw new AppError('internal', 'the VMM ended while starting: it was killed, or crashed', { cause: error });
  }
}

/** Events that come before anybody listens are dropped. */
export interface EventSink {
  onEvent?: (event: QmpEvent) => void;
}

async function commandLine(
  settings: LaunchSettings,
  request: LaunchRequest & { socketPath: string },
): Promise<string[]> {
  const { machine, accelerator, uid, gid } = request;
  const { program } = architectures[settings.architecture];
  const groups = accelerator === 'kvm' ? await kvmGroups() : [];
  return [
    ...(machine.network ? ['ip', 'netns', 'exec', machine.network.namespace] : []),
    // The wrapper that --fork leaves behind is in the cgroup too, and neither outlives the other.
    ...['unshare', '--mount', '--pid', '--ipc', '--uts', '--fork', '--kill-child=SIGKILL', '--mount-proc'],
    ...(machine.network ? [] : ['--net']),
    ...['setpriv', `--reuid=${uid}`, `--regid=${gid}`],
    groups.length > 0 ? `--groups=${groups.join(',')}` : '--clear-groups',
    // A change of identity clears the death signal that unshare has set, so it is set again.
    ...['--no-new-privs', '--inh-caps=-all', '--bounding-set=-all', '--pdeathsig=SIGKILL'],
    ...[program, ...qemuArguments(machine, { ...settings, ...request })],
  ];
}

/** The group that /dev/kvm is open to, when it is open to one that is not root's. */
async function kvmGroups(): Promise<number[]> {
  const { gid, mode } = await stat('/dev/kvm');
  return gid !== 0 && (mode & 0o060) === 0o060 ? [gid] : [];
}

async function startDetached([program = '', ...args]: string[], logPath: string): Promise<ChildProcess> {
  // The directory belongs to the VMM's identity: a link that an earlier VMM left there is not followed.
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND | constants.O_NOFOLLOW;
  const log = await open(logPath, flags, 0o600);
  try {
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      cwd: '/',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (cause) =>
        reject(
          new AppError('host_unavailable', `cannot run ${program}; 'aviary doctor' names what is missing`, { cause }),
        ),
      );
    });
    child.unref();
    return child;
  } finally {
    await log.close();
  }
}

async function connectWhenUp(options: {
  child: ChildProcess;
  socketPath: string;
  logPath: string;
  timeoutMs: number;
  signal: AbortSignal;
  events: EventSink;
}): Promise<QmpClient> {
  const { child, socketPath, logPath, timeoutMs, signal, events } = options;
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
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
    const log = (await readTail(logPath)).trim() || 'it gave no reason';
    const how = child.signalCode ?? `exit code ${child.exitCode}`;
    throw new AppError('internal', `the VMM did not start (${how}): ${log}`, { cause: error });
  }
}

/** Finds QEMU, the wrapper's only child, and makes sure that it is confined even if it was forked before the wrapper was. */
async function findVmm(wrapperPid: number, cgroup: Cgroup): Promise<{ pid: number; startTicks: string }> {
  const children = await readFile(`/proc/${wrapperPid}/task/${wrapperPid}/children`, 'utf8');
  const pid = Number(children.trim().split(' ')[0]);
  const found = await readProcessStat(pid);
  if (!found || found.parentPid !== wrapperPid) {
    throw new AppError('internal', 'cannot find the VMM that has just started: it ended at once');
  }
  for (const directory of cgroup.paths) {
    const members = (await readFile(path.join(directory, 'cgroup.procs'), 'utf8')).split('\n');
    if (!members.includes(String(pid))) {
      await cgroup.add(pid);
      break;
    }
  }
  return { pid, startTicks: found.startTicks };
}
