import { closeSync, openSync } from 'node:fs';
import { link, open } from 'node:fs/promises';
import { AppError } from '@aviary/core';
import { isOpenForWriting } from '@aviary/linux';
import { nodeErrorCode, waitFor } from '@aviary/service-kit';
import { copyDurably } from '../memory/sparse-copy.ts';

/**
 * How a file that a running microVM writes becomes part of a generation.
 *
 *   1. vCPUs stopped, VMM's caches flushed: nobody writes the file from here on.
 *   2. `adoptFile`: the draft gets a second name of the same file (or a copy). The sandbox still has its own.
 *   3. The draft flushes and hashes it, then commits.
 *   4. `freezeFile`: read-only, the VMM's uid no longer owns it.
 *   5. The VMM is killed (SIGKILL: on a clean exit QEMU would write to the image once more), the sandbox's own name removed,
 *      and a resume makes a new layer on top. One that goes on (checkpoint) is switched to a new layer, and opens this one for reading.
 *   6. Nobody reads it before `waitForLastWriter`: a VMM that its guest has taken over may have kept a descriptor, whatever it was told.
 *
 * A crash or an error before the commit leaves the sandbox's own name as it was: only the draft's name goes, and the microVM may
 * run on. After the commit the generation has the file, whether or not the sandbox's name is gone yet.
 */
export type AdoptBy =
  /** A second name of the same file. For a microVM that ends after this. */
  | 'link'
  /** A copy, sharing blocks where the file system can. For a microVM that goes on writing (checkpoint). */
  | 'copy';

/** Gives `source` the second name `target`, or copies it there; across file systems always the latter. `target` must not exist. */
export async function adoptFile(source: string, target: string, by: AdoptBy): Promise<void> {
  if (by === 'link') {
    try {
      await link(source, target);
      return;
    } catch (error) {
      if (nodeErrorCode(error) !== 'EXDEV') throw error;
    }
  }
  await copyDurably(source, target);
}

/** Mode of a committed part: for its owner and the VMMs' group to read, for nobody to write. */
const frozenMode = 0o440;

/**
 * Takes a committed part away from whoever wrote it: root's, readable by `readerGid`. A crash before it leaves a whole part with
 * another mode; the store does this again when it opens. True when anything had to be changed.
 */
export async function freezeFile(file: string, readerGid: number | undefined): Promise<boolean> {
  const handle = await open(file, 'r');
  try {
    const { mode, uid, gid } = await handle.stat();
    const [wantedUid, wantedGid] = [process.getuid?.() ?? uid, readerGid ?? process.getgid?.() ?? gid];
    const isFrozen = (mode & 0o7777) === frozenMode && uid === wantedUid && gid === wantedGid;
    if (isFrozen) return false;
    // The owner first: changing it may clear mode bits.
    await handle.chown(wantedUid, wantedGid);
    await handle.chmod(frozenMode);
    return true;
  } finally {
    await handle.close();
  }
}

/** Longest that the VMM which wrote a part may take to end, or to close it. */
const writerEndMs = 5_000;

/**
 * Resolves once nobody can write a frozen part any more, neither through a descriptor nor a mapping: for good, as nobody but root may open it for
 * writing. Throws `conflict` when somebody keeps it open. What it holds is to be checked after this.
 */
export async function waitForLastWriter(file: string): Promise<void> {
  if (!isWritten(file)) return;
  const options = { what: `the end of the writers of ${file}`, timeoutMs: writerEndMs };
  await waitFor(options, () => !isWritten(file)).catch((cause: unknown) => {
    const message = `cannot use ${file}: the VMM that saved it keeps it open for writing; end its sandbox, and try again`;
    throw new AppError('conflict', message, { cause });
  });
}

/** On this thread: it takes microseconds. */
function isWritten(file: string): boolean {
  const fd = openSync(file, 'r');
  try {
    return isOpenForWriting(fd);
  } catch (cause) {
    if (nodeErrorCode(cause) !== 'EINVAL') throw cause;
    const message = `cannot tell who can write ${file}: its file system knows no leases; use ext4, xfs or btrfs for the data directory`;
    throw new AppError('host_unavailable', message, { cause });
  } finally {
    closeSync(fd);
  }
}
