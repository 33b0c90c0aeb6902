import { access, chown, constants, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { errorText } from '@aviary/core';
import { runProgram, waitFor, writeDurableFile } from '@aviary/service-kit';
import type { VmmIdentity } from '../vmm.ts';
import { architectures, cpuModels } from './arguments.ts';
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
  /** Longest life of the probe guest. Default 10 000. */
  timeoutMs?: number;
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
  const { program, machineType } = architectures[settings.architecture];
  const version = parseVersion((await runProgram(program, ['--version'], { signal })).stdout);
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const key = JSON.stringify([bootId, version, program, options.kernelPath, options.initramfsPath]);
  const identity = { vmm: 'qemu', version, machineType } as const;
  const cached = await readCache(options.cachePath, key);
  const note = cached ? cached.note : await whyNotKvm(settings, options, signal);
  if (!cached) await writeDurableFile(options.cachePath, JSON.stringify({ key, note }));
  if (note === null) return { ...identity, accelerator: 'kvm', cpuModel: cpuModels.kvm };
  return { ...identity, accelerator: 'tcg', cpuModel: cpuModels.tcg, accelerationNote: note };
}

/** The version in the first line of `qemu-system-… --version`. */
export function parseVersion(text: string): string {
  return /version (\S+)/.exec(text)?.[1] ?? 'unknown';
}

async function readCache(file: string, key: string): Promise<{ note: string | null } | undefined> {
  try {
    const cached: unknown = JSON.parse(await readFile(file, 'utf8'));
    if (typeof cached !== 'object' || cached === null || !('key' in cached) || cached.key !== key) return undefined;
    if (!('note' in cached)) return undefined;
    return cached.note === null || typeof cached.note === 'string' ? { note: cached.note } : undefined;
  } catch {
    return undefined; // Missing or damaged: the probe writes it anew.
  }
}

/** Null when a guest boots with KVM. */
async function whyNotKvm(settings: LaunchSettings, options: ProbeOptions, signal: AbortSignal): Promise<string | null> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return '/dev/kvm is missing or closed to the host agent, so guests run on software CPUs';
  }
  const { timeoutMs = 10_000, uid } = options;
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
      return null;
    } finally {
      await vm.kill();
    }
  } catch (error) {
    signal.throwIfAborted();
    return `/dev/kvm opens but cannot run a guest (${errorText(error)}), so guests run on software CPUs`;
  } finally {
    await rm(runDirectory, { recursive: true, force: true });
  }
}
