import { access, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorText } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { isGone } from './process-table.ts';

/** What a microVM's processes may take of the host. */
export interface CgroupLimits {
  memoryBytes: number;
  /** In hundredths of a CPU. */
  cpuPercent: number;
  maxTasks: number;
}

type Controller = 'memory' | 'cpu' | 'pids';

/** Where this machine keeps its cgroups: one unified tree, or one tree per controller with or without a unified one beside them. */
export interface CgroupLayout {
  /** Mount point that manages each controller. */
  controllers: Partial<Record<Controller, { mount: string; version: 1 | 2 }>>;
  /** Mount point of the unified tree, for cgroup.kill; it may manage no controller. */
  unified: string | undefined;
}

const controllerNames = ['memory', 'cpu', 'pids'] as const satisfies readonly Controller[];
const cpuPeriodUs = 100_000;
const endTimeoutMs = 10_000;
const endPollMs = 2;

/** Reads the layout from /proc/self/mountinfo text (proc_pid_mountinfo(5)) and what the unified root offers. */
export function parseCgroupLayout(mountInfo: string, unifiedControllers: string): CgroupLayout {
  const layout: CgroupLayout = { controllers: {}, unified: undefined };
  for (const line of mountInfo.split('\n')) {
    const [left = '', right = ''] = line.split(' - ');
    const mount = left.split(' ')[4];
    const [type, , superOptions = ''] = right.split(' ');
    if (mount === undefined) continue;
    if (type === 'cgroup2') layout.unified ??= mount;
    if (type !== 'cgroup') continue;
    for (const name of controllerNames) {
      if (superOptions.split(',').includes(name)) layout.controllers[name] ??= { mount, version: 1 };
    }
  }
  if (layout.unified !== undefined) {
    for (const name of controllerNames) {
      if (unifiedControllers.split(/\s+/).includes(name)) {
        layout.controllers[name] ??= { mount: layout.unified, version: 2 };
      }
    }
  }
  return layout;
}

/** The layout of this machine. */
export async function readCgroupLayout(): Promise<CgroupLayout> {
  const mountInfo = await readFile('/proc/self/mountinfo', 'utf8');
  const { unified } = parseCgroupLayout(mountInfo, '');
  const offered = unified === undefined ? '' : await readFile(path.join(unified, 'cgroup.controllers'), 'utf8');
  return parseCgroupLayout(mountInfo, offered);
}

/** Makes the cgroups of the microVM `id` under `parent` and sets its limits. Leaves nothing behind when it fails. */
export async function createCgroup(
  layout: CgroupLayout,
  { parent, id, limits }: { parent: string; id: string; limits: CgroupLimits },
): Promise<Cgroup> {
  const mounts = new Set(Object.values(layout.controllers).map(({ mount }) => mount));
  if (layout.unified !== undefined) mounts.add(layout.unified);
  if (mounts.size === 0) {
    throw new AppError(
      'host_unavailable',
      'cannot limit microVMs: no cgroup file system is mounted under /sys/fs/cgroup',
    );
  }
  const cgroup = new Cgroup([...mounts].map((mount) => path.join(mount, parent, id)));
  try {
    const delegated = controllerNames.filter((name) => layout.controllers[name]?.version === 2);
    for (const mount of mounts) {
      await mkdir(path.join(mount, parent), { recursive: true });
      if (mount === layout.unified && delegated.length > 0) {
        const enable = delegated.map((name) => `+${name}`).join(' ');
        await writeFile(path.join(mount, 'cgroup.subtree_control'), enable);
        await writeFile(path.join(mount, parent, 'cgroup.subtree_control'), enable);
      }
      await mkdir(path.join(mount, parent, id));
    }
    await setLimits(layout, path.join(parent, id), limits);
    return cgroup;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new AppError(
        'already_exists',
        `cannot start microVM ${id}: its cgroup exists, so one of that name may run`,
        {
          cause: error,
        },
      );
    }
    await cgroup.remove();
    throw new AppError('host_unavailable', `cannot make the cgroup of microVM ${id}: ${errorText(error)}`, {
      cause: error,
    });
  }
}

async function setLimits(layout: CgroupLayout, name: string, limits: CgroupLimits): Promise<void> {
  const { memory, cpu, pids } = layout.controllers;
  const quotaUs = Math.round((limits.cpuPercent * cpuPeriodUs) / 100);
  if (memory?.version === 1) {
    await writeFile(path.join(memory.mount, name, 'memory.limit_in_bytes'), String(limits.memoryBytes));
  } else if (memory) {
    await writeFile(path.join(memory.mount, name, 'memory.max'), String(limits.memoryBytes));
    await writeFile(path.join(memory.mount, name, 'memory.oom.group'), '1');
  }
  if (cpu?.version === 1) {
    await writeFile(path.join(cpu.mount, name, 'cpu.cfs_period_us'), String(cpuPeriodUs));
    await writeFile(path.join(cpu.mount, name, 'cpu.cfs_quota_us'), String(quotaUs));
  } else if (cpu) {
    await writeFile(path.join(cpu.mount, name, 'cpu.max'), `${quotaUs} ${cpuPeriodUs}`);
  }
  if (pids) await writeFile(path.join(pids.mount, name, 'pids.max'), String(limits.maxTasks));
}

/** The microVMs that have a cgroup under `parent` in any hierarchy, by id. */
export async function listCgroups(layout: CgroupLayout, parent: string): Promise<Map<string, Cgroup>> {
  const mounts = new Set(Object.values(layout.controllers).map(({ mount }) => mount));
  if (layout.unified !== undefined) mounts.add(layout.unified);
  const paths = new Map<string, string[]>();
  for (const mount of mounts) {
    const entries = await readdir(path.join(mount, parent), { withFileTypes: true }).catch((error: unknown) => {
      if (isGone(error)) return [];
      throw error;
    });
    for (const entry of entries) {
      if (!entry.isDirectory()) continue;
      paths.set(entry.name, [...(paths.get(entry.name) ?? []), path.join(mount, parent, entry.name)]);
    }
  }
  return new Map([...paths].map(([id, directories]) => [id, new Cgroup(directories)]));
}

/** The cgroups of one microVM: one directory per hierarchy. */
export class Cgroup {
  readonly paths: readonly string[];

  constructor(paths: readonly string[]) {
    this.paths = paths;
  }

  /** Moves a process, with all its threads, into every hierarchy. */
  async add(pid: number): Promise<void> {
    for (const directory of this.paths) await writeFile(path.join(directory, 'cgroup.procs'), String(pid));
  }

  /** Processes in any of the hierarchies. */
  async processIds(): Promise<Set<number>> {
    const pids = new Set<number>();
    for (const directory of this.paths) {
      for (const line of (await readOrEmpty(path.join(directory, 'cgroup.procs'))).split('\n')) {
        if (line !== '' && line !== '0') pids.add(Number(line));
      }
    }
    return pids;
  }

  /** True when the kernel killed something in it for want of memory. */
  async wasOutOfMemory(): Promise<boolean> {
    for (const directory of this.paths) {
      for (const file of ['memory.events', 'memory.oom_control']) {
        const kills = /^oom_kill (\d+)$/m.exec(await readOrEmpty(path.join(directory, file)))?.[1];
        if (kills !== undefined && kills !== '0') return true;
      }
    }
    return false;
  }

  /**
   * Kills everything in it and resolves when nothing is left. cgroup.kill (Linux 5.14) takes processes that fork meanwhile
   * too; without it the members are killed one by one until there are none.
   */
  async killAll(): Promise<void> {
    for (const directory of this.paths) {
      const kill = path.join(directory, 'cgroup.kill');
      try {
        await access(kill);
        await writeFile(kill, '1');
      } catch (error) {
        if (!isGone(error)) throw error;
      }
    }
    await waitFor(
      { what: `the end of the processes in ${this.paths[0]}`, timeoutMs: endTimeoutMs, intervalMs: endPollMs },
      async () => {
        const pids = await this.processIds();
        for (const pid of pids) {
          try {
            process.kill(pid, 'SIGKILL');
          } catch (error) {
            if (!isGone(error)) throw error;
          }
        }
        return pids.size === 0;
      },
    );
  }

  /** Kills what is in it and removes it. No error when it is gone. */
  async remove(): Promise<void> {
    await this.killAll();
    for (const directory of this.paths) {
      // A process that has just ended may keep its cgroup busy for an instant.
      await waitFor(
        { what: `the removal of cgroup ${directory}`, timeoutMs: endTimeoutMs, intervalMs: endPollMs },
        async () => {
          try {
            await rmdir(directory);
            return true;
          } catch (error) {
            if (isGone(error)) return true;
            if ((error as NodeJS.ErrnoException).code === 'EBUSY') return false;
            throw error;
          }
        },
      );
    }
  }
}

async function readOrEmpty(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (isGone(error) || (error as NodeJS.ErrnoException).code === 'ENODEV') return '';
    throw error;
  }
}
