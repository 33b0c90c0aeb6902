import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { errorText } from '@aviary/core';
import type { ChildEnd } from '@aviary/linux';
import { systemClock } from '@aviary/service-kit';
import type { VmExit } from '../vmm.ts';
import type { Cgroup } from './cgroup.ts';
import { isGone, isRunning, killProcess } from './process-table.ts';

export interface VmmProcessOptions {
  pid: number;
  startTicks: string;
  cgroup: Cgroup;
  logPath: string;
  /** Resolves when the VMM's control connection has ended, usually because the VMM has. */
  disconnected: Promise<void>;
  /** How it ended; known to the process that started it alone. */
  ended?: Promise<ChildEnd>;
}

/** Only while a VMM is about to end: commands wait for that. */
const pollMs = 2;
const keptLogBytes = 4096;
const maxLogBytes = 256 * 1024;
const logCheckMs = 10_000;

/**
 * The operating system's side of one VMM: notices its end, says why, and takes its cgroup along. The process is detached:
 * letting go of this object leaves it running.
 */
export class VmmProcess {
  readonly exited: Promise<VmExit>;
  readonly #options: VmmProcessOptions;
  readonly #letGo = new AbortController();
  #isKilled = false;
  #guestEnd: VmExit | undefined;

  constructor(options: VmmProcessOptions) {
    this.#options = options;
    this.exited = this.#watch();
  }

  /** Notes what the VMM said about its guest's end: it explains the exit that follows. */
  noteGuestEnd(end: VmExit): void {
    this.#guestEnd = end;
  }

  /** Ends a VMM whose guest has ended. */
  async endAfterGuest(end: VmExit): Promise<void> {
    this.noteGuestEnd(end);
    await killProcess(this.#options);
  }

  /** Ends the VMM and everything in its cgroup, and resolves when that is gone. */
  async kill(): Promise<VmExit> {
    this.#isKilled = true;
    await killProcess(this.#options);
    return this.exited;
  }

  /** Stops watching; `exited` stays pending for ever. */
  letGo(): void {
    this.#letGo.abort();
  }

  async #watch(): Promise<VmExit> {
    const { ended, disconnected, cgroup } = this.#options;
    const { promise: letGo, resolve } = Promise.withResolvers<void>();
    this.#letGo.signal.addEventListener('abort', () => resolve(), { once: true });
    const logTimer = setInterval(() => void boundLog(this.#options.logPath).catch(() => undefined), logCheckMs).unref();
    await Promise.race([disconnected, letGo, ...(ended ? [ended] : [])]);
    clearInterval(logTimer);
    while (!this.#letGo.signal.aborted && (await this.#isAlive())) await systemClock.sleep(pollMs);
    if (this.#letGo.signal.aborted) await new Promise(() => undefined);
    const wasOutOfMemory = await cgroup.wasOutOfMemory().catch(() => false);
    let leftover = '';
    try {
      await cgroup.remove();
    } catch (error) {
      leftover = `; ${errorText(error)}`;
    }
    const ending = ended && (await ended);
    const { reason, lastOutput } = await this.#explain(wasOutOfMemory, ending);
    return { reason: reason + leftover, lastOutput };
  }

  async #isAlive(): Promise<boolean> {
    return isRunning(this.#options).catch(() => true);
  }

  async #explain(wasOutOfMemory: boolean, ending: ChildEnd | undefined): Promise<VmExit> {
    if (!this.#isKilled && !wasOutOfMemory && this.#guestEnd) return this.#guestEnd;
    return { reason: await this.#reasonOf(wasOutOfMemory, ending), lastOutput: '' };
  }

  async #reasonOf(wasOutOfMemory: boolean, ending: ChildEnd | undefined): Promise<string> {
    if (this.#isKilled) return 'killed';
    if (wasOutOfMemory) return 'out of memory: the VMM reached the memory limit of its cgroup';
    if (ending?.signal) return `killed by ${ending.signal}`;
    const log = (await readTail(this.#options.logPath)).trim().split('\n').at(-1) ?? '';
    const detail = log === '' ? '' : `: ${log}`;
    return ending ? `exit code ${ending.code}${detail}` : `ended${detail}`;
  }
}

/** The end of a log that a VMM wrote. Its directory is the VMM's own, so a link in the log's place is not followed. */
export async function readTail(file: string): Promise<string> {
  try {
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const { size } = await handle.stat();
      const { buffer, bytesRead } = await handle.read({
        buffer: Buffer.alloc(keptLogBytes),
        position: Math.max(0, size - keptLogBytes),
      });
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch {
    return ''; // No log is no news.
  }
}

/** Cuts a log that has grown beyond `maxBytes` down to its end. Its writer appends, so it goes on after that. No error when there is none. */
export async function boundLog(file: string, maxBytes = maxLogBytes): Promise<void> {
  try {
    await using handle = await open(file, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stats = await handle.stat();
    if (!stats.isFile() || stats.size <= maxBytes) return;
    const tail = await readTail(file);
    await handle.truncate(0);
    await handle.appendFile(`… cut …\n${tail}`);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}
