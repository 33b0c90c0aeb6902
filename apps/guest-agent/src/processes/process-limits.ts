/** Bounds of what one process may cost the agent. Bytes and milliseconds. */
export const processLimits = {
  /** Output kept per process: 1 MiB for each of two streams. */
  keptOutputBytes: 2 * 1024 * 1024,
  chunkBytes: 64 * 1024,
  terminalChunkBytes: 16 * 1024,
  /** Output that comes in pieces of this size, no further apart than this, is left to gather in its pipe for a moment. */
  gatheredReadBytes: { min: 1_024, max: 32 * 1024 },
  maxGatherGapMs: 100,
  maxGatherMs: 25,
  /** A reader this far behind holds the process back, until it is down to half of it. */
  maxLagBytes: 512 * 1024,
  /** How long a reader may hold a process back, besides what it reads at the rate below. */
  holdAllowanceMs: 2_000,
  minReaderBytesPerSecond: 512 * 1024,
  /** How often a command without output tells its caller that the agent lives. */
  commandKeepaliveMs: 5_000,
  /** Input that a process has not read yet. */
  maxPendingInputBytes: 8 * 1024 * 1024,
  /** After exit, output pipes that others still hold are followed until they are quiet for this long … */
  quietAfterExitMs: 50,
  /** … and at most for this long. */
  maxAfterExitMs: 1_000,
  /** Exit status and output of an ended process: until somebody read them, or this long. */
  unreadRetentionMs: 3_600_000,
  /** Time in which a second reader may still come once the end was read. */
  readRetentionMs: 30_000,
  maxEnded: 256,
  maxRunning: 4_096,
} as const;
