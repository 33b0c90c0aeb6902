import { readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { availableParallelism } from 'node:os';

interface CpuTimes {
  busy: number;
  total: number;
}

/** CPU, memory and root disk of the guest. Processor use is that since the previous reading; the first is since boot. */
export class MetricsReader {
  #previous: CpuTimes = { busy: 0, total: 0 };

  async read(nowMs: number): Promise<Record<string, number>> {
    const current = readCpuTimes();
    const total = current.total - this.#previous.total;
    const share = total > 0 ? (current.busy - this.#previous.busy) / total : 0;
    this.#previous = current;
    const memory = readMemory();
    const disk = await statfs('/');
    return {
      ts: Math.floor(nowMs / 1_000),
      cpu_count: availableParallelism(),
      cpu_used_pct: Math.round(Math.min(Math.max(share, 0), 1) * 10_000) / 100,
      mem_total: memory.total,
      mem_used: memory.used,
      mem_cache: memory.cache,
      mem_total_mib: Math.floor(memory.total / 2 ** 20),
      mem_used_mib: Math.floor(memory.used / 2 ** 20),
      disk_used: (disk.blocks - disk.bfree) * disk.bsize,
      disk_total: disk.blocks * disk.bsize,
    };
  }
}

/** First line of /proc/stat, proc_stat(5): user nice system idle iowait irq softirq steal. */
function readCpuTimes(): CpuTimes {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n', 1);
  const times = line.trim().split(/\s+/).slice(1, 9).map(Number);
  const total = times.reduce((sum, time) => sum + time, 0);
  return { total, busy: total - (times[3] ?? 0) - (times[4] ?? 0) };
}

function readMemory(): { total: number; used: number; cache: number } {
  const text = readFileSync('/proc/meminfo', 'utf8');
  const bytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1_024;
  const total = bytes('MemTotal');
  return { total, used: total - bytes('MemAvailable'), cache: bytes('Cached') + bytes('Buffers') };
}
