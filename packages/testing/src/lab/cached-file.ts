import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';

export interface CachedFile {
  directory: string;
  name: string;
  /** Everything that the content follows from: JSON. */
  inputs: unknown;
  /** Makes the content as `file`; `work` is an empty directory beside it that goes away afterwards. */
  build: (place: { file: string; work: string }) => Promise<void>;
}

/**
 * The file of that name made from these inputs, made now if it is not there. Those from other inputs are removed: a machine
 * that still runs on one has it open. One process at a time: the caller holds a lock on the directory.
 */
export async function cachedFile({ directory, name, inputs, build }: CachedFile): Promise<string> {
  const key = createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 20);
  const target = path.join(directory, `${name}-${key}.img`);
  if (existsSync(target)) return target;
  await mkdir(directory, { recursive: true });
  for (const entry of await readdir(directory)) {
    if (entry.startsWith(`${name}-`)) await rm(path.join(directory, entry), { recursive: true, force: true });
  }
  const work = path.join(directory, `${name}-work`);
  await mkdir(work);
  const file = path.join(directory, `${name}-new`);
  try {
    await build({ file, work });
    await rename(file, target);
  } finally {
    await rm(work, { recursive: true, force: true });
    await rm(file, { force: true });
  }
  return target;
}
