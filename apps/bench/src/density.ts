import { readdir, readFile } from 'node:fs/promises';
import { must } from '@aviary/core';
import { findMappings, testImages } from '@aviary/host-agent/testing';
import { systemClock } from '@aviary/service-kit';
import { BareBed } from './bare-bed.ts';
import { startPlatformHarness } from './platform/platform-harness.ts';
import { type BenchOptions, type BenchReport, type BenchRow, machineFacts, row } from './report.ts';
import { repeat } from './timed.ts';

const maxPrivateMb = 5;
/** After a clone's first command: what that started in the guest has ended by then. */
const settleMs = 2_000;

/** Guest RAM that a fresh clone has for itself after its first command, against a bare QEMU's clone. */
export async function benchDensity({ samples, onRow }: BenchOptions): Promise<BenchReport> {
  const imagesFrom = await testImages();
  const floor: GuestRam[] = [];
  const product: GuestRam[] = [];
  {
    await using bed = await BareBed.open({ imagesFrom, accelerator: 'tcg' });
    const { value: source } = await bed.boot();
    const state = await bed.saveAndEnd(source);
    const clones = await repeat(samples, () => bed.restore(state));
    await systemClock.sleep(settleMs);
    for (const { value } of clones) floor.push(await guestRam(value.pid, state.memoryPath));
  }
  {
    await using platform = await startPlatformHarness({
      imagesFrom,
      settings: { AVIARY_WARM_POOL: '0', AVIARY_LOG_LEVEL: 'warn' },
    });
    const { sandboxes } = platform.client;
    // The first one has the saved state made that the others are clones of.
    await repeat(samples + 1, async () => {
      const { id } = await sandboxes.create({ template: 'minimal' }, { waitSec: 300 });
      await sandboxes.exec(id, { cmd: '/bin/true', args: [] });
    });
    await systemClock.sleep(settleMs);
    for (const { pid, memoryPath } of await findVmms(platform.dataDir)) product.push(await guestRam(pid, memoryPath));
  }
  const figures = (name: keyof GuestRam) => ({
    floor: floor.map((ram) => ram[name]),
    product: product.map((ram) => ram[name]),
  });
  const rows: BenchRow[] = [
    row('density_private', 'MB', figures('privateMb'), { limit: () => maxPrivateMb }),
    row('density_pss', 'MB', figures('pssMb')),
  ];
  for (const one of rows) onRow(one);
  return { bench: 'density', machine: machineFacts('tcg'), rows };
}

interface GuestRam {
  /** Pages of guest RAM that are this process's alone because they were written. */
  privateMb: number;
  /** Its share of guest RAM in memory, pages of the shared image divided among those that map them. */
  pssMb: number;
}

/** What /proc/PID/smaps says about the mapping of guest RAM. See proc_pid_smaps(5). */
async function guestRam(pid: number, memoryPath: string): Promise<GuestRam> {
  const text = await readFile(`/proc/${pid}/smaps`, 'utf8');
  const starts = new Set(findMappings(text, memoryPath).map(({ start }) => start));
  if (starts.size === 0) throw new Error(`process ${pid} does not map ${memoryPath}`);
  let isGuestRam = false;
  const ram = { privateMb: 0, pssMb: 0 };
  for (const line of text.split('\n')) {
    const range = /^([0-9a-f]+)-[0-9a-f]+ /.exec(line);
    if (range) isGuestRam = starts.has(Number.parseInt(range[1] ?? '', 16));
    const [, name, kib] = /^(\w+):\s+(\d+) kB$/.exec(line) ?? [];
    if (!isGuestRam || kib === undefined) continue;
    // Anonymous: a private mapping's pages that were written.
    if (name === 'Anonymous') ram.privateMb += (Number(kib) * 1024) / 1e6;
    if (name === 'Pss') ram.pssMb += (Number(kib) * 1024) / 1e6;
  }
  return ram;
}

/** The VMMs whose guest RAM is under `dataDir`. */
async function findVmms(dataDir: string): Promise<{ pid: number; memoryPath: string }[]> {
  const found: { pid: number; memoryPath: string }[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const args = (await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')).split('\0');
    const memory = args.find((arg) => arg.startsWith('memory-backend-file,') && arg.includes(`mem-path=${dataDir}/`));
    if (!args[0]?.includes('qemu-system-') || memory === undefined) continue;
    const memoryPath = must(/mem-path=([^,]+)/.exec(memory)?.[1], 'the argument has one');
    found.push({ pid: Number(name), memoryPath });
  }
  return found;
}
