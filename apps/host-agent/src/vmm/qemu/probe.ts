import { access, chown, constants, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AppError, errorText } from '@aviary/core';
import { runProgram, waitFor, writeDurableFile } from '@aviary/service-kit';
import type { VmmIdentity } from '../vmm.ts';
import { architectures } from './arguments.ts';
import { cpuModelName, readCpuInfo } from './cpu-model.ts';
import { type LaunchSettings, launchQemu } from './launch.ts';
import { QemuMicroVm } from './qemu-micro-vm.ts';

export interface ProbeOptions {
  kernelPath: string;
  /** Any initramfs with a static busybox at /bin/busybox. */
  initramfsPath: string;
  /** Keeps the answer; it holds for this boot of this machine, this kernel file and this QEMU. */
  cachePath: string;
  /** Unprivileged identity of the probe's VMM. */
  uid: number;
  /** Longest life of the probe guest: a machine that is itself a guest needs many times what others do. */
  timeoutMs: number;
}

/** What the probe guest prints. It computes the number, so that an echo of its command line is no answer. */
const marker = 'aviary-probe-42';
const markerCommand = ['rdinit=/bin/busybox', '--', 'sh', '-c', '"echo aviary-probe-$((40+2)); /bin/busybox sleep 60"'];
const probeMemoryMib = 256;

/**
 * Finds out which accelerator works here. A /dev/kvm that opens is no proof: on some machines it cannot run an ordinary guest
 * kernel. So a small guest is booted with it once, exactly as microVMs are.
 */
export async function probeQemu(
  settings: LaunchSettings,
  options: ProbeOptions,
  signal: AbortSignal,
): Promise<VmmIdentity> {
  const { program } = settings;
  const { machineType } = architectures[settings.architecture];
  const version = parseVersion((await runProgram(program, ['--version'], { signal })).stdout);
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const { cpuModel: fixed } = settings;
  const key = JSON.stringify([bootId, version, program, options.kernelPath, options.initramfsPath, fixed]);
  const { note, detail } = await rememberFinding({ file: options.cachePath, key }, () =>
    whyNotKvm(settings, options, signal),
  );
  const accelerator = note === null ? 'kvm' : 'tcg';
  const cpuModel = cpuModelName(accelerator, { ...(fixed ? { fixed } : {}), cpuInfo: await readCpuInfo() });
  return {
    ...{ vmm: 'qemu', version, machineType, accelerator, cpuModel },
    ...(note === null ? {} : { accelerationNote: note }),
    ...(detail === undefined ? {} : { accelerationDetail: detail }),
  };
}

/** Why KVM is not used, in one line, and all that was said about it; a null note means that it works. */
interface Finding {
  note: string | null;
  detail?: string;
  /** Set when the guest had not answered in time: a machine with less to do may run it. */
  isUndecided?: true;
}

/** So often a guest that does not answer is waited for; after that, KVM is taken not to work. */
const maxUndecided = 3;

/** The finding kept for this key, or a new one, which is kept. After an undecided one, the next starts find out anew, some times. */
export async function rememberFinding(
  { file, key }: { file: string; key: string },
  find: () => Promise<Finding>,
): Promise<Finding> {
  const cached = await readCache(file, key);
  if (cached && (!cached.isUndecided || cached.attempts >= maxUndecided)) return cached.finding;
  const finding = await find();
  const attempts = (cached?.attempts ?? 0) + 1;
  await writeDurableFile(file, JSON.stringify({ key, attempts, ...finding }));
  return finding;
}

/** The version in the first line of `qemu-system-… --version`. */
export function parseVersion(text: string): string {
  return /version (\S+)/.exec(text)?.[1] ?? 'unknown';
}

interface CachedFinding {
  finding: Finding;
  /** How often it was found out for this key. */
  attempts: number;
  isUndecided: boolean;
}

async function readCache(file: string, key: string): Promise<CachedFinding | undefined> {
  try {
    const cached: unknown = JSON.parse(await readFile(file, 'utf8'));
    if (typeof cached !== 'object' || cached === null || !('key' in cached) || cached.key !== key) return undefined;
    if (!('note' in cached) || !(cached.note === null || typeof cached.note === 'string')) return undefined;
    const detail = 'detail' in cached && typeof cached.detail === 'string' ? { detail: cached.detail } : {};
    const attempts = 'attempts' in cached && typeof cached.attempts === 'number' ? cached.attempts : 1;
    return { finding: { note: cached.note, ...detail }, attempts, isUndecided: 'isUndecided' in cached };
  } catch {
    return undefined; // Missing or damaged: the probe writes it anew.
  }
}

async function whyNotKvm(settings: LaunchSettings, options: ProbeOptions, signal: AbortSignal): Promise<Finding> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return { note: 'there is no /dev/kvm, or it is closed to the host agent' };
  }
  const { timeoutMs, uid } = options;
  const runDirectory = await mkdtemp(path.join(tmpdir(), 'aviary-probe-'));
  try {
    await chown(runDirectory, uid, uid);
    const launched = await launchQemu(
      settings,
      {
        id: `probe-${path.basename(runDirectory).slice(-6)}`,
        machine: {
          vcpus: 1,
          memoryMib: probeMemoryMib,
          kernelPath: options.kernelPath,
          initramfsPath: options.initramfsPath,
          kernelParameters: markerCommand,
          memoryPath: path.join(runDirectory, 'memory'),
        },
        accelerator: 'kvm',
        mapping: 'shared',
        isIncoming: false,
        uid,
        gid: uid,
        runDirectory,
      },
      signal,
    );
    const vm = new QemuMicroVm(launched);
    try {
      await vm.resume();
      const gone = vm.exited.then(({ reason }) => reason);
      await waitFor({ what: 'the answer of the probe guest', timeoutMs, intervalMs: 100, signal }, async () => {
        const reason = await Promise.race([gone, undefined]);
        if (reason !== undefined) throw new Error(reason);
        return (await vm.consoleTail()).includes(marker);
      });
      return { note: null };
    } finally {
      await vm.kill();
    }
  } catch (error) {
    signal.throwIfAborted();
    const detail = errorText(error);
    const isUndecided = error instanceof AppError && error.code === 'deadline_exceeded';
    return { note: noGuestNote(detail), detail, ...(isUndecided ? { isUndecided } : {}) };
  } finally {
    await rm(runDirectory, { recursive: true, force: true });
  }
}

const maxNoteLength = 160;

/** The first line of what went wrong. A VMM that refuses to start says much after it. */
export function noGuestNote(detail: string): string {
  const [first = ''] = detail.split('\n');
  return `/dev/kvm runs no guest: ${first.trim()}`.slice(0, maxNoteLength);
}
