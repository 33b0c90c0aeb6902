import { runLab, whyNoLab } from '@aviary/testing/lab';
import { dataDir, root, signal } from './test-machine.ts';

/** Of the lab's tests, those that belong to a run of all tests: what shows soonest that something fails on real KVM. */
const share = [
  'packages/testing/src/lab/machine.lab',
  'apps/host-agent/src/host-agent.lab',
  'apps/cli/src/platform/up.lab',
  '--testNamePattern=with KVM',
];
const timeoutMs = 20 * 60_000;

export interface LabShare {
  exitCode: number;
  /** All that it said. */
  log: string;
}

/** Runs the lab's share of all tests. It is told at the end, because other tests print meanwhile. Where there can be no lab, that is a failure. */
export async function runLabShare(): Promise<LabShare> {
  const reason = await whyNoLab(signal);
  if (reason !== undefined) return { exitCode: 1, log: `${reason}, and REQUIRE_LAB=1 forbids leaving it out\n` };
  const parts: string[] = [];
  const exitCode = await runLab({
    ...{ root, imagesFrom: dataDir, vitestArguments: share, timeoutMs, signal },
    note: (text) => parts.push(`${text}\n`),
    onOutput: (text) => parts.push(text),
  });
  return { exitCode, log: parts.join('') };
}
