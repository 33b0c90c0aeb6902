import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { buildImages } from '@aviary/images';
import { runProgram } from '@aviary/service-kit';

const repository = path.resolve(import.meta.dirname, '../../../..');

/**
 * The data directory with the images that tests boot: built once, kept under `.cache` unless AVIARY_TEST_DATA_DIR names another. With
 * AVIARY_PREBUILT_IMAGES=1, as in the lab, they are there already.
 */
export async function testImages(): Promise<string> {
  const dataDir = process.env['AVIARY_TEST_DATA_DIR'] ?? path.join(repository, '.cache/test-data');
  if (process.env['AVIARY_PREBUILT_IMAGES'] === '1') return dataDir;
  const guestAgentEntry = path.join(repository, 'apps/guest-agent/src/main.ts');
  if (!existsSync(guestAgentEntry)) throw new Error(`${guestAgentEntry} is missing`);
  await buildImages({ dataDir, guestAgentEntry, onProgress: () => undefined, signal: AbortSignal.timeout(540_000) });
  return dataDir;
}

/** Gives the data directory `to` the images of `from`: by hard links where the file system allows them, as images are immutable, and large. */
export async function linkImages(from: string, to: string): Promise<void> {
  const [source, target] = [path.join(from, 'images'), path.join(to, 'images')];
  await mkdir(target, { recursive: true, mode: 0o711 });
  const linked = await runProgram('cp', ['-al', `${source}/.`, target], { okExitCodes: [0, 1] });
  if (linked.exitCode !== 0)
    await runProgram('cp', ['-a', '--sparse=always', `${source}/.`, target], { timeoutMs: 300_000 });
}
