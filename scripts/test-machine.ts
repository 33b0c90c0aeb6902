import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { ensureHostPackages, ensureImages, Output, runAsRoot } from '@aviary/cli';

/** What the scripts that run tests share: the checkout, the guest images, a signal that ends all of it. */
export const root = path.join(import.meta.dirname, '..');
export const dataDir = process.env['AVIARY_TEST_DATA_DIR'] ?? path.join(root, '.cache', 'test-data');
export const output = new Output({
  ...{ stdout: process.stdout, stderr: process.stderr },
  ...{ isJson: false, isColorWanted: false },
});

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupt.abort(name));
export const { signal } = interrupt;

/** Installs and builds what tests with microVMs need. As root. */
export async function prepareMachine(): Promise<void> {
  await ensureHostPackages(output, signal);
  await mkdir(dataDir, { recursive: true });
  await ensureImages({ dataDir }, output, signal);
}

/** Runs this script again as root; see {@link runAsRoot}. */
export async function rerunAsRoot(what: string): Promise<number> {
  return await runAsRoot({ what, env: process.env, note: (text) => output.note(text), signal });
}
