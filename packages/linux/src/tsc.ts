import { readFile } from 'node:fs/promises';

/** The rate of this machine's time-stamp counter: its base frequency where the kernel gives it, else what cpuinfo says. */
export async function readTscKhz(): Promise<number | undefined> {
  const base = await readFile('/sys/devices/system/cpu/cpu0/cpufreq/base_frequency', 'utf8').catch(() => undefined);
  if (base !== undefined) return Number(base);
  const megahertz = /^cpu MHz\s*: ([\d.]+)$/m.exec(await readFile('/proc/cpuinfo', 'utf8'))?.[1];
  return megahertz === undefined ? undefined : Math.round(Number(megahertz) * 1_000);
}
