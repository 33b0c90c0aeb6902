import { readdir, readFile } from 'node:fs/promises';

/** What /proc/PID/stat says about a process. */
export interface ProcessStat {
  parentPid: number;
  /** One letter; `Z` and `X` are processes that have ended and wait to be collected. */
  state: string;
  /** Field 22: clock ticks since boot at which the process started. */
  startTicks: string;
  /** Fields 14 and 15: processor time of all its threads, in its own code and in the kernel's. */
  cpuMs: number;
}

/** A clock tick of /proc, on every architecture: USER_HZ is 100. */
const tickMs = 10;

/** Reads /proc/PID/stat; undefined when there is no such process. See proc(5). */
export async function readProcessStat(pid: number): Promise<ProcessStat | undefined> {
  let text: string;
  try {
    text = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
  // The command name is in parentheses and may itself hold spaces and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, parentPid] = fields;
  const startTicks = fields[19];
  if (state === undefined || startTicks === undefined) return undefined;
  const cpuMs = (Number(fields[11]) + Number(fields[12])) * tickMs;
  return { parentPid: Number(parentPid), state, startTicks, cpuMs };
}

/** True while the process that `identity` names runs: same id and same start, and not a zombie. */
export async function isRunning({ pid, startTicks }: { pid: number; startTicks: string }): Promise<boolean> {
  const stat = await readProcessStat(pid);
  return stat !== undefined && stat.startTicks === startTicks && stat.state !== 'Z' && stat.state !== 'X';
}

/** CPU time that the process has used since it started; undefined when it has ended. */
export async function cpuUsedMs({ pid, startTicks }: { pid: number; startTicks: string }): Promise<number | undefined> {
  const stat = await readProcessStat(pid);
  return stat?.startTicks === startTicks ? stat.cpuMs : undefined;
}

/** True for the errors that mean that a process or its /proc entry is not there any more. */
export function isGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOENT' || code === 'ESRCH';
}

/** Sends SIGKILL to the process that `identity` names; nothing happens when it has ended or its id is another's now. */
export async function killProcess(identity: { pid: number; startTicks: string }): Promise<void> {
  if (!(await isRunning(identity))) return;
  try {
    process.kill(identity.pid, 'SIGKILL');
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** The arguments of every process of this machine, its program's name first. */
export async function* listProcesses(): AsyncGenerator<{ pid: number; args: string[] }> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const text = await readFile(`/proc/${name}/cmdline`, 'utf8');
      yield { pid: Number(name), args: text.split('\0').slice(0, -1) };
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }
}
