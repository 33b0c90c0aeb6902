import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '@aviary/core';

const mib = 1024 * 1024;
/** Memory that user processes cannot take from the agent and the kernel. */
const reservedBytes = 64 * mib;
/** The agent is never chosen by the out-of-memory killer. User processes set their own score when they start. */
const agentOomScoreAdj = -1_000;
const maxUserPids = 16_384;

/**
 * Keeps user processes from starving the agent: a group of its own with a memory reserve and the larger share of the
 * processors, and bounds on the users' group. Each step is tried on its own, as kernels differ in what they offer;
 * returns what failed.
 */
export function protectAgent(cgroupRoot: string): string[] {
  const agent = join(cgroupRoot, 'agent');
  const user = join(cgroupRoot, 'user');
  const failures: string[] = [];
  const attempt = (what: string, step: () => void) => {
    try {
      step();
    } catch (error) {
      failures.push(`${what}: ${errorText(error)}`);
    }
  };
  attempt('oom_score_adj', () => writeFileSync('/proc/self/oom_score_adj', String(agentOomScoreAdj)));
  attempt('agent group', () => {
    mkdirSync(agent, { recursive: true });
    mkdirSync(user, { recursive: true });
    writeFileSync(join(agent, 'cgroup.procs'), String(process.pid));
  });
  for (const controller of ['memory', 'pids', 'cpu']) {
    attempt(`${controller} controller`, () =>
      writeFileSync(join(cgroupRoot, 'cgroup.subtree_control'), `+${controller}`),
    );
  }
  attempt('agent memory.min', () => writeFileSync(join(agent, 'memory.min'), String(reservedBytes)));
  attempt('agent cpu.weight', () => writeFileSync(join(agent, 'cpu.weight'), '10000'));
  attempt('user memory.max', () => writeFileSync(join(user, 'memory.max'), String(userMemoryBytes())));
  attempt('user pids.max', () => writeFileSync(join(user, 'pids.max'), String(userPids())));
  return failures;
}

function userMemoryBytes(): number {
  const totalKib = Number(/^MemTotal:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0);
  return Math.max(totalKib * 1_024 - reservedBytes, reservedBytes);
}

/** Three quarters of what the kernel can hold: a fork bomb leaves room for the agent's own threads. */
function userPids(): number {
  const threads = Number(readFileSync('/proc/sys/kernel/threads-max', 'utf8'));
  return Math.min(maxUserPids, Math.floor(threads * 0.75));
}
