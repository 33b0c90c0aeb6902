import type { BigIntStats } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { uuidv7 } from '@aviary/core';
import { type Clock, type FaultPoints, syncDirectory, writeDurableFile } from '@aviary/service-kit';
import type { HostLayout } from '../layout.ts';
import { materialise, mergeDiffs, readDiff } from '../memory/memory-diff.ts';
import { freezeFile } from './disk-handover.ts';
import type { MemorySource } from './generation-draft.ts';
import {
  diffMemoryPart,
  formatManifest,
  fullMemoryPart,
  type MergedManifest,
  manifestFile,
  type StorageRef,
} from './manifest.ts';
import { sealPart } from './seal-part.ts';

export interface WriteMergedDeps {
  layout: HostLayout;
  clock: Clock;
  faults: FaultPoints;
  readerGid: number | undefined;
}

/** A merged form that is in place, and what the kernel said about its file before it was hashed. */
export interface WrittenMerged {
  merged: MergedManifest;
  file: string;
  stat: BigIntStats;
}

/**
 * Writes a diff's memory anew in one piece, in a directory of its own that is renamed into place. On any error nothing of it is left.
 * `locate` says where the memory files are that it reads from.
 */
export async function writeMerged(
  { layout, clock, faults, readerGid }: WriteMergedDeps,
  { generationId, source, form }: { generationId: string; source: MemorySource; form: 'full' | 'diff' },
  locate: (storageId: string) => string,
): Promise<WrittenMerged> {
  const storage: StorageRef = { generationId, storageId: uuidv7(clock.now()) };
  const draft = layout.mergedDraft(storage.generationId, storage.storageId);
  const home = layout.merged(storage.generationId, storage.storageId);
  const part = form === 'full' ? fullMemoryPart : diffMemoryPart;
  try {
    await mkdir(draft, { mode: 0o711 });
    await faults.hit('merge.before-write');
    const { mapping, memoryBytes, generationNumber } = await readDiff(source.path);
    const target = path.join(draft, part);
    if (form === 'full') await materialise(target, { mapping, memoryBytes }, locate);
    else await mergeDiffs(target, { id: storage.storageId, generationNumber, memoryBytes, mapping }, locate);
    await freezeFile(target, readerGid);
    const sealed = await sealPart(target);
    await faults.hit('merge.before-manifest');
    const { bytes, sha256 } = sealed;
    const memory = form === 'full' ? { kind: form, part } : { kind: form, part, needs: [] };
    const createdAt = new Date(clock.now()).toISOString();
    const merged: MergedManifest = { ...storage, createdAt, parts: { [part]: { bytes, sha256 } }, memory };
    await writeDurableFile(path.join(draft, manifestFile), formatManifest('merged', merged));
    await faults.hit('merge.before-rename');
    await rename(draft, home);
    await faults.hit('merge.after-rename');
    await syncDirectory(layout.mergedDirectory);
    return { merged, file: path.join(home, part), stat: sealed.stat };
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    await rm(home, { recursive: true, force: true });
    throw error;
  }
}
