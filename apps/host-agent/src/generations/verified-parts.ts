import type { BigIntStats } from 'node:fs';
import { type FileHandle, open, stat, utimes } from 'node:fs/promises';
import { AppError } from '@aviary/core';
import { hashFile } from '../memory/content-hash.ts';
import type { PartFacts } from './manifest.ts';

/**
 * Which files are known to hold what their manifest says, without reading them again.
 *
 * Hashing a guest's memory takes as long as restoring it, so a resume cannot always pay for it. But a file that this process hashed,
 * and that nobody has written since, still has that hash; the kernel's own record of a file (device, inode, size, mtime and ctime)
 * says whether somebody has. Every write, truncation, replacement and rename onto the path changes that record; ctime cannot be set
 * back without turning the machine's clock. So:
 *
 * - a file whose record is the remembered one is trusted: the usual case, a resume on the host that paused, costs one stat per part;
 * - anything else (changed, swapped, copied here, left by an earlier agent process) is hashed in full and then remembered;
 * - a file changed within {@link racyMs} of being looked at is not remembered, because the kernel's clock ticks every few
 *   milliseconds and a second write in the same tick would go unseen.
 *
 * What this cannot see is a disk that returns other bits than were written. That shows when the record is cold: after a
 * restart of the agent, or in {@link GenerationStore.verify}, which trusts nothing.
 */
export class VerifiedParts {
  readonly #records = new Map<string, string>();

  /** Takes note of a file that was just hashed, given its stat from before it was. Called again after a rename or chmod of ours. */
  remember(file: string, stat: BigIntStats): void {
    if (BigInt(Date.now()) - stat.mtimeMs < BigInt(racyMs)) this.#records.delete(file);
    else this.#records.set(file, recordOf(stat));
  }

  /**
   * As {@link remember} for a file that was written only now, whose record would not show another write in the same tick of the clock: its
   * time of modification is set back first, and any write moves it to the present.
   */
  async rememberFresh(file: string, { mtimeMs }: BigIntStats): Promise<void> {
    const seconds = Number(mtimeMs) / 1_000 - setBackSeconds;
    await utimes(file, seconds, seconds);
    this.remember(file, await stat(file, { bigint: true }));
  }

  isTrusted(file: string, stat: BigIntStats): boolean {
    return this.#records.get(file) === recordOf(stat);
  }

  /** The kernel's record of a trusted file as it is now; undefined when it is not trusted, or gone. */
  async trustedRecord(file: string): Promise<string | undefined> {
    const known = await stat(file, { bigint: true }).catch(() => undefined);
    return known && this.isTrusted(file, known) ? recordOf(known) : undefined;
  }

  /**
   * Makes a change of ours to a file's names (removing one moves ctime) without losing the trust in it: content changes would have moved
   * mtime or the size.
   */
  async keepTrust(file: string, change: () => Promise<void>): Promise<void> {
    const before = await stat(file, { bigint: true });
    const wasTrusted = this.isTrusted(file, before);
    await change();
    if (!wasTrusted) return;
    const after = await stat(file, { bigint: true });
    if (after.ino === before.ino && after.size === before.size && after.mtimeNs === before.mtimeNs)
      this.remember(file, after);
  }

  forget(file: string): void {
    this.#records.delete(file);
  }

  /**
   * Checks that `file` is what `facts` say: by its size and the kernel's record when that is enough, else by its hash. `isThorough`
   * always hashes. Throws `integrity`.
   */
  async check(file: string, facts: PartFacts, { isThorough = false, signal }: CheckOptions = {}): Promise<void> {
    if (!isThorough) {
      const known = await stat(file, { bigint: true }).catch(() => undefined); // opening it tells why
      if (known?.size === BigInt(facts.bytes) && this.isTrusted(file, known)) return;
    }
    const handle = await openPart(file);
    try {
      const stat = await handle.stat({ bigint: true });
      if (stat.size !== BigInt(facts.bytes)) throw damaged(file, `it has ${stat.size} bytes instead of ${facts.bytes}`);
      if ((await hashFile(handle, facts.bytes, signal)) !== facts.sha256) {
        this.forget(file);
        throw damaged(file, 'its content does not match its hash');
      }
      const after = await handle.stat({ bigint: true });
      if (recordOf(after) === recordOf(stat)) this.remember(file, after);
    } finally {
      await handle.close();
    }
  }
}

export interface CheckOptions {
  isThorough?: boolean;
  signal?: AbortSignal;
}

/** Longer than a tick of the clock that file times are taken from (10 ms on the slowest kernels). */
const racyMs = 20;
/** How far {@link VerifiedParts.rememberFresh} sets a file's time back: well past `racyMs`, in whole seconds for coarse file systems. */
const setBackSeconds = 2;

/** What the kernel says about a file that changes whenever its content may have. */
function recordOf(stat: BigIntStats): string {
  return [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(' ');
}

function damaged(file: string, problem: string): AppError {
  const part = file.split('/').slice(-2).join('/');
  return new AppError('integrity', `saved file ${part} is damaged: ${problem}`, { details: { part } });
}

async function openPart(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'r');
  } catch (cause) {
    throw damaged(file, cause instanceof Error ? cause.message : String(cause));
  }
}
