import { spawn } from 'node:child_process';
import path from 'node:path';
import { isRoot } from '@aviary/cli';
import { errorText } from '@aviary/core';
import { type LabShare, runLabShare } from './lab-share.ts';
import { dataDir, output, prepareMachine, rerunAsRoot, root, signal } from './test-machine.ts';

const isCi = process.env['CI'] === 'true';

const isLabRequired = process.env['REQUIRE_LAB'] === '1';

/**
 * Runs every test: installs and builds what those with microVMs need, then Vitest with this process's arguments. Without any and
 * with REQUIRE_LAB=1, the lab's share runs beside it: that takes one processor for some minutes, and most tests wait for one guest at a time.
 */
async function main(): Promise<number> {
  if (isRoot()) await prepareMachine();
  else {
    const rerun = await tryAsRoot();
    if (rerun !== undefined) return rerun;
  }
  const isAll = process.argv.length === 2;
  const lab = isAll && isLabRequired ? runLabShare().catch(failedShare) : undefined;
  const exitCode = await runVitest();
  if (!lab) {
    if (isAll) output.note('\nSKIPPED: nothing was tested on real KVM; REQUIRE_LAB=1 does, and npm run lab');
    return exitCode;
  }
  output.note('\nthe tests on real KVM, in the lab:');
  const { log, exitCode: labExitCode } = await lab;
  process.stdout.write(log);
  return exitCode || labExitCode;
}

const failedShare = (error: unknown): LabShare => ({ exitCode: 1, log: `cannot run the lab: ${errorText(error)}\n` });

async function runVitest(): Promise<number> {
  const env = { ...process.env, AVIARY_TEST_DATA_DIR: dataDir, ...(isCi ? { REQUIRE_VM: '1' } : {}) };
  const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const args = [vitest, 'run', ...process.argv.slice(2)];
  const child = spawn(process.execPath, args, { cwd: root, stdio: 'inherit', env });
  signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true });
  return await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}

/** The exit code of a run as root; undefined when this user cannot have one and the other tests are to run without. */
async function tryAsRoot(): Promise<number | undefined> {
  try {
    return await rerunAsRoot('testing with microVMs');
  } catch (error) {
    if (isCi || isLabRequired) throw error;
    output.note(`${errorText(error)}\nrunning the tests that need no microVM`);
    return undefined;
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  output.note(`cannot run the tests: ${errorText(error)}`);
  process.exitCode = 1;
}
