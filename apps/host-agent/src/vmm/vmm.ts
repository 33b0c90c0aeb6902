import type { DiskLayer } from '../disk/disk-store.ts';

/**
 * The boundary between a host and the virtual machine monitors that it can drive. Each driver runs one VMM process per
 * microVM, detached from the host agent: it outlives the agent, and a later agent attaches to it again by its record.
 */

export type VmmName = 'qemu' | 'firecracker' | 'fake';

/** What the driver found on this machine; part of every snapshot's manifest, because a restore needs the same. */
export interface VmmIdentity {
  vmm: VmmName;
  version: string;
  machineType: string;
  /** The processor that guests see: two of one name are alike in all that a guest may use. */
  cpuModel: string;
  /** `kvm` only after a probe guest really booted with it. */
  accelerator: 'kvm' | 'tcg' | 'none';
  /** Why hardware virtualisation is not used, in one line for people; undefined when it is. */
  accelerationNote?: string;
  /** All that was said about it. */
  accelerationDetail?: string;
}

/** Everything a microVM is started with. Paths are absolute. */
export interface MachineSpec {
  /** Names the microVM in cgroup and process lists: the sandbox's UUID, or `warm-…`, `probe-…`. */
  id: string;
  vcpus: number;
  memoryMib: number;
  kernelPath: string;
  initramfsPath: string;
  /** Kernel parameters of the guest's own besides the driver's, e.g. `aviary.host_token_sha256=…`. */
  kernelParameters: readonly string[];
  toolboxPath: string;
  /** The layer that the guest writes to. Its directory is the microVM's own: later layers lie there too. `bases`: the files under it. */
  disk: DiskLayer & { bases: readonly string[] };
  /** Guest RAM: written through when booting, mapped privately when restoring. */
  memoryPath: string;
  network: { namespace: string; tapName: string; guestMac: string };
  /** The unprivileged identity that the VMM runs as. Its files belong to it. */
  uid: number;
  /** The group that it reads images and saved states through. */
  gid: number;
  /** An existing directory of the microVM's own for sockets and console output, owned by `uid`. */
  runDirectory: string;
}

/** Finds a running VMM again: by process id and start time (ids are reused, start times of one id are not). */
export interface VmmRecord {
  id: string;
  vmm: VmmName;
  pid: number;
  /** Field 22 of /proc/PID/stat, clock ticks since boot. */
  startTicks: string;
  /** The VMM's control socket. */
  socketPath: string;
  /** Directories under /sys/fs/cgroup that the VMM is in and that go with it. */
  cgroupPaths: readonly string[];
  runDirectory: string;
  /** Guest RAM: `shared` writes through to the file, `private` keeps what is written to the process. */
  guestMemory: { path: string; mapping: 'shared' | 'private' };
}

/** How a VMM ended. `reason` is for people: `killed`, `out of memory`, `guest powered off`, `exit code 1: …`. */
export interface VmExit {
  reason: string;
  /** What the guest printed last when it ended by itself (see `lastOutputOf`); empty when that is not known. */
  lastOutput: string;
}

/** A run of guest RAM: whole pages. */
export interface GuestPages {
  offset: number;
  data: Buffer;
}

/** A saved state. */
export interface SavedState {
  /** Device state, as {@link MicroVm.saveState} wrote it. */
  statePath: string;
  /** Where guest RAM differs from the machine's memory file; the rest is as the file has it. In any order. */
  pages?: AsyncIterable<GuestPages>;
}

/** One microVM. */
export interface MicroVm {
  readonly record: VmmRecord;
  /** Settles when the VMM process is gone, however it ended. Never rejects. */
  readonly exited: Promise<VmExit>;
  /** Stops the vCPUs. Running → paused; no effect when paused. */
  pause(): Promise<void>;
  /**
   * Writes device state to `statePath` (created, fsynced). Paused only. It writes no guest RAM, which may be saved beside it: of a
   * booted microVM all of it is in `memoryPath`; of a restored one it is that file plus the pages that {@link dirtyPages} names.
   */
  saveState(statePath: string): Promise<void>;
  /**
   * Copies what was written since the restore: calls `onRange` with each run of dirty guest pages, in order. Paused only,
   * and only of a restored microVM (`diffSnapshots`). Exact: a page is reported if and only if it was written, whatever its content. The
   * bytes are valid until `onRange` returns, or until the promise that it returns resolves.
   */
  dirtyPages(onRange: (range: GuestPages) => void | Promise<void>): Promise<void>;
  /** Paused → running. */
  resume(): Promise<void>;
  /** Flushes the drive's caches to the host's disk. Paused only. */
  flushDisk(): Promise<void>;
  /**
   * Has the guest's writes go to `layer` from now on: a new, empty layer, as large as the disk and belonging to the VMM's uid, on top
   * of the one in use or of a file with the same content. That one is complete then, and never written again. Paused only; no
   * effect when `layer` is in use already. When it throws, the old layer is still in use, unless the VMM is gone.
   */
  switchDisk(layer: DiskLayer): Promise<void>;
  /** The layer that the guest's writes go to now, as the VMM knows it. Any state. */
  diskPath(): Promise<string>;
  /**
   * True while a write of the guest waits because the host's disk is full: the VMM has stopped its vCPUs, and {@link resume} tries
   * the write again. Known to a microVM that was attached to as well.
   */
  readonly isOutOfSpace: boolean;
  /** The last output of the guest's console, at most 64 KiB; empty when the driver keeps none. Any state. */
  consoleTail(): Promise<string>;
  /** Any state → gone, cgroup removed. No error when it is gone already. Resolves when the process has ended. */
  kill(): Promise<void>;
}

/** Disposing of a driver lets go of its microVMs, which run on. */
export interface Vmm extends AsyncDisposable {
  readonly name: VmmName;
  /** What this machine offers. Boots a probe guest the first time; the answer is kept per machine. */
  probe(signal: AbortSignal): Promise<VmmIdentity>;
  /** Starts a new guest from its kernel. Resolves when the VMM runs the guest, not when the guest answers. */
  boot(spec: MachineSpec, signal: AbortSignal): Promise<MicroVm>;
  /**
   * Loads a saved state: RAM is `spec.memoryPath`, mapped privately and never written, with `from.pages` in place of what the file
   * has there; those count as written since the restore. Resolves paused: call `resume`.
   */
  restore(spec: MachineSpec, from: SavedState, signal: AbortSignal): Promise<MicroVm>;
  /** Finds a running VMM that an earlier agent started; undefined when it is gone. */
  attach(record: VmmRecord): Promise<MicroVm | undefined>;
  /** Ends every microVM of this host agent whose id is not in `keep`: what a crash left before it was journaled. */
  removeStrays(keep: ReadonlySet<string>): Promise<void>;
}
