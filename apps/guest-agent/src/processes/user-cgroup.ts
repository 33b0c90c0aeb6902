import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@aviary/service-kit/deadline';

/** The group of one user process and all it starts. */
export interface ProcessGroup {
  /** End of its path, as /proc/PID/cgroup shows it. */
  readonly pathSuffix: string;
  /** A descriptor of its `cgroup.procs`: whoever holds it may move itself in, whatever user it is. The caller closes it. */
  openMembers(): number;
  /** Pids in the group now. */
  members(): number[];
  /** Sends SIGKILL to every member at once, those being forked included. */
  kill(): void;
  /** Ends the group; false while it has members. */
  remove(): boolean;
}

/** Where user processes live: grouped, so that they can be frozen, bounded and killed as one. */
export interface ProcessGroups {
  create(): ProcessGroup;
  freeze(timeoutMs: number): Promise<void>;
  thaw(): void;
}

/** User processes under `root`/user of a cgroup v2 hierarchy, one child group each. */
export class UserCgroup implements ProcessGroups {
  readonly path: string;
  #created = 0;

  constructor(root: string) {
    this.path = join(root, 'user');
    mkdirSync(this.path, { recursive: true });
    // A restarted agent finds its predecessor's groups: empty ones go, numbering starts after the others.
    for (const entry of readdirSync(this.path)) {
      const number = /^p(\d+)$/.exec(entry)?.[1];
      if (number !== undefined && !removeGroup(join(this.path, entry))) {
        this.#created = Math.max(this.#created, Number(number));
      }
    }
  }

  create(): ProcessGroup {
    const name = `p${++this.#created}`;
    const path = join(this.path, name);
    mkdirSync(path);
    return {
      pathSuffix: `/user/${name}`,
      openMembers: () => openSync(join(path, 'cgroup.procs'), 'w'),
      members: () => readPids(join(path, 'cgroup.procs')),
      kill: () => killGroup(path),
      remove: () => removeGroup(path),
    };
  }

  /** Stops every user process; throws `deadline_exceeded`, with all of them running again, when one does not stop in time. */
  async freeze(timeoutMs: number): Promise<void> {
    writeFileSync(join(this.path, 'cgroup.freeze'), '1');
    try {
      await waitFor({ what: 'freezing user processes', timeoutMs, intervalMs: 1 }, () =>
        /^frozen 1$/m.test(readFileSync(join(this.path, 'cgroup.events'), 'utf8')),
      );
    } catch (error) {
      this.thaw();
      throw error;
    }
  }

  thaw(): void {
    writeFileSync(join(this.path, 'cgroup.freeze'), '0');
  }
}

function readPids(path: string): number[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean).map(Number);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** `cgroup.kill` (Linux 5.14) reaches those that are being forked too; before it, members are killed until none is new. */
function killGroup(path: string): void {
  const control = join(path, 'cgroup.kill');
  try {
    if (existsSync(control)) writeFileSync(control, '1');
    else killMembers(path);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

function killMembers(path: string): void {
  const killed = new Set<number>();
  for (;;) {
    const alive = readPids(join(path, 'cgroup.procs')).filter((pid) => !killed.has(pid));
    if (alive.length === 0) return;
    for (const pid of alive) {
      killed.add(pid);
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
  }
}

function removeGroup(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    if (isGone(error)) return true;
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return false;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENODEV';
}
