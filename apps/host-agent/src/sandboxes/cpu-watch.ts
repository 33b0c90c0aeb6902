/** A microVM that uses more of its CPUs than this, in percent over one window, is working, whoever asked it to. */
const busyCpuPercent = 10;
/** The window is this part of the idle time, within bounds: short enough that a pause comes soon after work ended. */
const windowsPerTimeout = 8;
const windowMs = { min: 1_000, max: 30_000 } as const;

export interface CpuReading {
  sandboxId: string;
  /** Which run of the sandbox it is of: what another run used does not count. */
  run: string;
  nowMs: number;
  /** CPU time that the run's microVM has used since it started. */
  usedMs: number;
  vcpus: number;
  timeoutSec: number;
}

interface Window {
  run: string;
  /** When the run was first seen. */
  seenMs: number;
  startMs: number;
  usedMs: number;
}

/**
 * Tells from the host whether microVMs work. Looked at all the time rather than when a pause is due: an average over the idle time holds
 * the work that came before it, and would put the pause off by as much again.
 */
export class CpuWatch {
  readonly #windows = new Map<string, Window>();

  /** `unknown` until a run was watched for one window. */
  judge({ sandboxId, run, nowMs, usedMs, vcpus, timeoutSec }: CpuReading): 'busy' | 'quiet' | 'unknown' {
    const known = this.#windows.get(sandboxId);
    const lengthMs = Math.min(Math.max((timeoutSec * 1_000) / windowsPerTimeout, windowMs.min), windowMs.max);
    if (known?.run !== run) {
      this.#windows.set(sandboxId, { run, seenMs: nowMs, startMs: nowMs, usedMs });
      return 'unknown';
    }
    const isBusy = usedMs - known.usedMs > (lengthMs * vcpus * busyCpuPercent) / 100;
    if (isBusy || nowMs - known.startMs >= lengthMs) Object.assign(known, { startMs: nowMs, usedMs });
    if (isBusy) return 'busy';
    return nowMs - known.seenMs >= lengthMs ? 'quiet' : 'unknown';
  }

  /** Forgets the sandboxes that are not among these. */
  keepOnly(sandboxIds: ReadonlySet<string>): void {
    for (const id of this.#windows.keys()) if (!sandboxIds.has(id)) this.#windows.delete(id);
  }
}
