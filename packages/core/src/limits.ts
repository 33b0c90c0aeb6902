import { AppError } from './errors.ts';

/** Ranges and defaults that the API checks and the host agent checks again. Sizes in MiB, times in seconds. */
export const sandboxLimits = {
  vcpus: { min: 1, max: 16, default: 1 },
  memoryMib: { min: 256, max: 65_536, default: 512 },
  /** The least is the smallest disk of a template; a sandbox's is at least as large as its own template's. */
  diskMib: { min: 5_120, max: 1_048_576, default: 5_120 },
  /** Idle time before auto-pause; 0 means never. */
  timeoutSec: { min: 0, max: 30 * 24 * 3600, default: 0 },
  forkCount: { min: 1, max: 100, default: 1 },
  /** Generations kept per sandbox besides pinned ones. */
  keptGenerations: 5,
  /** Length of a memory diff chain at which it is merged. */
  maxDiffChain: 8,
  metadataEntries: 64,
  metadataBytes: 16_384,
  envEntries: 256,
  envBytes: 65_536,
} as const;

/** Of commands, wherever they are run from: the API, the SDK and the command line program have no limits of their own. */
export const execLimits = {
  timeoutSec: {
    min: 0,
    max: 24 * 3600,
    /** Of a command whose whole output is waited for. One that is followed as it goes, or detached, has none. */
    default: 30,
  },
  /** Output kept of a buffered exec, per stream. */
  maxOutputBytes: 8 * 1024 * 1024,
  /** Standard input of a buffered exec; of a followed one, what it has not taken yet. */
  maxStdinBytes: 8 * 1024 * 1024,
  /** Standard input in one frame of a stream. */
  maxStdinFrameBytes: 512 * 1024,
  /** Frames of output that a client of a stream may ask to have on their way to it. */
  maxOutputWindow: 4_096,
  maxArgs: 4_096,
  maxCommandBytes: 131_072,
} as const;

/** Signals that a command can be sent. */
export const execSignals = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGKILL',
  'SIGUSR1',
  'SIGUSR2',
  'SIGTERM',
  'SIGCONT',
  'SIGSTOP',
] as const;
export type ExecSignal = (typeof execSignals)[number];

export const fileLimits = {
  /** A file's content in one upload. */
  maxUploadBytes: 100 * 1024 * 1024,
  maxPathBytes: 4_095,
  maxListDepth: 16,
  /** Entries of one page, and of a listing that does not ask for pages. */
  maxListEntries: 10_000,
  /** A path in base64. */
  maxListCursorBytes: 8_192,
  chunkBytes: 64 * 1024,
} as const;

/** Checks the sizes that a sandbox is asked for. Throws `invalid_request` naming the field and its range. */
export function checkSandboxSizes(sizes: { vcpus: number; memoryMib: number; diskMib: number }): void {
  const ranges = [
    ['vcpus', sizes.vcpus, sandboxLimits.vcpus],
    ['memory_mib', sizes.memoryMib, sandboxLimits.memoryMib],
    ['disk_mib', sizes.diskMib, sandboxLimits.diskMib],
  ] as const;
  for (const [field, value, { min, max }] of ranges) {
    if (Number.isInteger(value) && value >= min && value <= max) continue;
    throw new AppError('invalid_request', `${field} must be a whole number from ${min} to ${max}`, {
      details: { field },
    });
  }
}
