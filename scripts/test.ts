import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { ensureHostPackages, ensureImages, isRoot, Output, runAsRoot } from '@aviary/cli';
import { errorText } from '@aviary/core';

const root = path.join(import.meta.dirname, '..');
const dataDir = process.env['AVIARY_TEST_DATA_DIR'] ?? path.join(root, '.cache', 'test-data');
const isCi = process.env['CI'] === 'true';
const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupt.abort(name));
const { signal } = interrupt;
const output = new Output({ stdout: process.stdout, stderr: process.stderr, isJson: false, isColorWanted: false });

/** Runs every test: installs and builds what those with microVMs need, then hands over to Vitest with this process's arguments. */
async function main(): Promise<number> {
  if (isRoot()) {
    await ensureHostPackages(output, signal);
    await mkdir(dataDir, { recursive: true });
    await ensureImages(dataDir, output, signal);
  } else {
    const rerun = await tryAsRoot();
    if (rerun !== undefined) return rerun;
  }
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
    return await runAsRoot({
      what: 'testing with microVMs',
      argv: process.argv.slice(1),
      env: process.env,
      isTerminal: process.stdin.isTTY === true,
      note: (text) => output.note(text),
      signal,
    });
  } catch (error) {
    if (isCi) throw error;
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
