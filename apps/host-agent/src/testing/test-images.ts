import { existsSync } from 'node:fs';
import path from 'node:path';
import { buildImages } from '@aviary/images';

const repository = path.resolve(import.meta.dirname, '../../../..');

/** The data directory with the images that tests boot: built once, kept under `.cache` unless AVIARY_TEST_DATA_DIR names another. */
export async function testImages(): Promise<string> {
  const dataDir = process.env['AVIARY_TEST_DATA_DIR'] ?? path.join(repository, '.cache/test-data');
  const guestAgentEntry = path.join(repository, 'apps/guest-agent/src/main.ts');
  if (!existsSync(guestAgentEntry)) throw new Error(`${guestAgentEntry} is missing`);
  await buildImages({ dataDir, guestAgentEntry, onProgress: () => undefined, signal: AbortSignal.timeout(540_000) });
  return dataDir;
}
