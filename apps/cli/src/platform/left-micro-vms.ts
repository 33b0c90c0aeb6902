import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * Processes of this machine whose files are those of a sandbox in `dataDir`: microVMs, which go on without their host agent. The key
 * of one team does not show what another's sandboxes are, so this asks the kernel.
 */
export async function findLeftMicroVms(dataDir: string): Promise<number[]> {
  const sandboxes = `${path.join(dataDir, 'host', 'sandboxes')}/`;
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const isMicroVm = async (pid: number) => {
    const [program = '', ...args] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    return path.basename(program).startsWith('qemu-system-') && args.some((argument) => argument.includes(sandboxes));
  };
  const found = await Promise.all(pids.map(async (pid) => ((await isMicroVm(pid)) ? [pid] : [])));
  return found.flat();
}
