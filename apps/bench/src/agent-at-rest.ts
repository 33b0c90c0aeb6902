import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { runProgram, systemClock } from '@aviary/service-kit';
import type { PlatformHarness } from './platform/platform-harness.ts';
import { type BenchRow, row } from './report.ts';
import { repeat } from './timed.ts';

const maxRssMb = 120;
const maxCpuPercent = 2;
/** After the last create; what follows it (clean-up, refilling the slots) is over by then. */
const settleMs = 5_000;
const windowMs = 10_000;

/** What the host agent takes while `count` sandboxes do nothing, against a Node process that does nothing. */
export async function measureAgentAtRest(product: PlatformHarness, count: number): Promise<BenchRow[]> {
  const { client } = product;
  await repeat(count, () => client.sandboxes.create({ template: 'minimal' }, { waitSec: 120 }));
  await systemClock.sleep(settleMs);
  const bare = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 2 ** 30)'], { stdio: 'ignore' });
  try {
    const agentPid = await product.servicePid('host-agent');
    const before = { agent: await cpuMs(agentPid), bare: await cpuMs(bare.pid ?? 0) };
    await systemClock.sleep(windowMs);
    const share = (beforeMs: number, afterMs: number) => ((afterMs - beforeMs) / windowMs) * 100;
    const agentCpu = share(before.agent, await cpuMs(agentPid));
    const bareCpu = share(before.bare, await cpuMs(bare.pid ?? 0));
    return [
      row(
        'agent_rss',
        'MB',
        { floor: [await rssMb(bare.pid ?? 0)], product: [await rssMb(agentPid)] },
        { limit: () => maxRssMb },
      ),
      row('agent_cpu', '% of a core', { floor: [bareCpu], product: [agentCpu] }, { limit: () => maxCpuPercent }),
    ];
  } finally {
    bare.kill('SIGKILL');
  }
}

/** Resident set of a process, in MB. */
async function rssMb(pid: number): Promise<number> {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1];
  return (Number(kib) * 1024) / 1e6;
}

/** Processor time that a process has used, in ms (fields 14 and 15 of /proc/PID/stat). */
async function cpuMs(pid: number): Promise<number> {
  const { stdout } = await runProgram('getconf', ['CLK_TCK']);
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1_000) / Number(stdout);
}
