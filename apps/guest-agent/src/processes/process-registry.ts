import { AppError } from '@aviary/core';
import { GuestProcess, type ProcessDescription } from './guest-process.ts';
import { checkWorkingDirectory, type Launcher, type LaunchRequest } from './launch-command.ts';
import { processLimits } from './process-limits.ts';
import type { RunningProcess } from './running-process.ts';
import { startPipedProcess } from './start-piped-process.ts';
import { startTerminalProcess } from './start-terminal-process.ts';
import type { ProcessGroup, ProcessGroups } from './user-cgroup.ts';

export interface ProcessStart {
  launch: Omit<LaunchRequest, 'group'>;
  description: ProcessDescription;
  hasStdin: boolean;
  /** A terminal of this size instead of pipes. */
  terminal: { cols: number; rows: number } | undefined;
  /** The process and its tree are killed after this long. */
  timeoutMs: number | undefined;
  /** As for `GuestProcess`. */
  isOwned?: boolean;
  maxOutputBytes?: number | undefined;
}

export type ProcessSelector = { by: 'pid'; pid: number } | { by: 'tag'; tag: string };

export interface ProcessRegistryOptions {
  launcher: Launcher;
  /** Undefined runs processes without groups. */
  groups: ProcessGroups | undefined;
  retention?: { unreadMs: number; readMs: number; maxEnded: number };
}

const defaultRetention = {
  unreadMs: processLimits.unreadRetentionMs,
  readMs: processLimits.readRetentionMs,
  maxEnded: processLimits.maxEnded,
};

/** Every process the agent started and still answers for: the running, and the ended within their retention. */
export class ProcessRegistry {
  readonly #options: Required<Pick<ProcessRegistryOptions, 'launcher' | 'retention'>> & {
    groups: ProcessGroups | undefined;
  };
  readonly #byPid = new Map<number, GuestProcess>();
  readonly #ended = new Map<GuestProcess, NodeJS.Timeout>();
  /** Ended processes whose group still holds programs they left behind. */
  readonly #occupied = new Set<GuestProcess>();

  constructor({ launcher, groups, retention = defaultRetention }: ProcessRegistryOptions) {
    this.#options = { launcher, groups, retention };
  }

  async start({ launch, description, hasStdin, terminal, timeoutMs, ...terms }: ProcessStart): Promise<GuestProcess> {
    this.#checkRoom(description.tag);
    checkWorkingDirectory(launch.cwd);
    const group = this.#options.groups?.create();
    const request = { ...launch, group };
    const owner = new GuestProcess({ description, group, hasTerminal: terminal !== undefined, ...terms }, (ended) =>
      this.#retain(ended),
    );
    const { launcher } = this.#options;
    let running: RunningProcess;
    try {
      running = terminal
        ? await startTerminalProcess({ launcher, request, size: terminal }, owner)
        : await startPipedProcess({ launcher, request, hasStdin }, owner);
    } catch (error) {
      this.#discardGroup(group);
      throw error;
    }
    owner.attach(running);
    this.#byPid.set(running.pid, owner);
    if (timeoutMs !== undefined) owner.endAfter(timeoutMs);
    return owner;
  }

  /** Running processes, and ended ones whose exit status nobody has read. */
  list(): GuestProcess[] {
    return [...this.#byPid.values()].filter((entry) => !entry.hasEnded || !entry.isEndRead);
  }

  /** Throws `not_found`. A tag names the newest process that carries it. */
  find(selector: ProcessSelector): GuestProcess {
    const found =
      selector.by === 'pid'
        ? this.#byPid.get(selector.pid)
        : [...this.#byPid.values()].findLast((entry) => entry.description.tag === selector.tag);
    if (found) return found;
    const name = selector.by === 'pid' ? `pid ${selector.pid}` : `tag ${JSON.stringify(selector.tag)}`;
    throw new AppError('not_found', `there is no process with ${name}, or it ended and its exit status was read`);
  }

  /** Called when a reader was given a process's end: from then on it is kept for a short time only. */
  noteEndRead(entry: GuestProcess): void {
    entry.markEndRead();
    if (this.#ended.has(entry)) this.#retain(entry);
  }

  /** Ends everything: for the end of the agent. */
  [Symbol.dispose](): void {
    for (const timer of this.#ended.values()) clearTimeout(timer);
    this.#ended.clear();
    for (const entry of this.#byPid.values()) entry.killTree();
  }

  #checkRoom(tag: string | undefined): void {
    const running = [...this.#byPid.values()].filter((entry) => !entry.hasEnded);
    if (running.length >= processLimits.maxRunning) {
      throw new AppError('quota_exceeded', `the sandbox runs ${running.length} commands already; end some first`);
    }
    if (tag !== undefined && running.some((entry) => entry.description.tag === tag)) {
      throw new AppError('already_exists', `a running process has the tag ${JSON.stringify(tag)}; choose another`);
    }
  }

  #retain(entry: GuestProcess): void {
    const { readMs, unreadMs, maxEnded } = this.#options.retention;
    clearTimeout(this.#ended.get(entry));
    const timer = setTimeout(() => this.#forget(entry), entry.isEndRead ? readMs : unreadMs);
    timer.unref();
    this.#ended.set(entry, timer);
    if (!entry.releaseGroup()) this.#occupied.add(entry);
    for (const other of this.#occupied) if (other.releaseGroup()) this.#occupied.delete(other);
    if (this.#ended.size <= maxEnded) return;
    // Ended ones that were read go first, then the oldest.
    const candidates = [...this.#ended.keys()];
    const victim = candidates.find((candidate) => candidate.isEndRead) ?? candidates[0];
    if (victim) this.#forget(victim);
  }

  #forget(entry: GuestProcess): void {
    clearTimeout(this.#ended.get(entry));
    this.#ended.delete(entry);
    // The kernel may have given the pid to a newer process.
    if (this.#byPid.get(entry.pid) === entry) this.#byPid.delete(entry.pid);
  }

  #discardGroup(group: ProcessGroup | undefined): void {
    group?.kill();
    group?.remove();
  }
}
