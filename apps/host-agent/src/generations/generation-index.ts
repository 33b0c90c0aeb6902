import { readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorText } from '@aviary/core';
import { type Logger, nodeErrorCode, syncDirectory } from '@aviary/service-kit';
import type { HostLayout } from '../layout.ts';
import { freezeFile } from './disk-handover.ts';
import { JsonFields } from './json-fields.ts';
import {
  type GenerationManifest,
  type MergedManifest,
  manifestFile,
  maxManifestBytes,
  parseGenerationManifest,
  parseMergedManifest,
} from './manifest.ts';

/** Written into a generation that is gone but for the parts that others still read. */
export const retiredFile = 'retired.json';

/** A generation on disk. */
export interface IndexedGeneration {
  manifest: GenerationManifest;
  /** Set when it can no longer be opened: the parts that are kept for others. */
  retired?: readonly string[];
}

/** What is on disk, as the manifests tell it. */
export interface GenerationIndex {
  generations: Map<string, IndexedGeneration>;
  /** By `storageId`. */
  merged: Map<string, MergedManifest>;
}

/** Reads a manifest file, at most {@link maxManifestBytes}. Throws `integrity`. */
export async function readManifestFile(directory: string): Promise<string> {
  const file = path.join(directory, manifestFile);
  const { size } = await stat(file);
  if (size > maxManifestBytes) throw new AppError('integrity', `${manifestFile} has ${size} bytes`);
  return await readFile(file, 'utf8');
}

/**
 * What the store knows at start: removes every draft that a crash left, then reads the manifest of everything that is in place. What
 * cannot be read stays where it is, unused, and is logged: a person may want to look at it.
 */
export async function loadIndex(
  layout: HostLayout,
  { logger, readerGid }: { logger: Logger; readerGid: number | undefined },
): Promise<GenerationIndex> {
  const index: GenerationIndex = { generations: new Map(), merged: new Map() };
  for (const name of await sweepAndList(layout.generationsDirectory)) {
    const directory = path.join(layout.generationsDirectory, name);
    try {
      const manifest = parseGenerationManifest(await readManifestFile(directory));
      if (manifest.id !== name) throw new AppError('integrity', `generation ${name} holds the files of ${manifest.id}`);
      const retired = await readRetired(directory);
      await settle(directory, manifest, { retired, readerGid });
      index.generations.set(name, { manifest, ...(retired ? { retired } : {}) });
    } catch (error) {
      logger.error({ generation: name, error: errorText(error) }, 'generation cannot be used');
    }
  }
  for (const name of await sweepAndList(layout.mergedDirectory)) {
    try {
      const manifest = parseMergedManifest(await readManifestFile(path.join(layout.mergedDirectory, name)));
      if (`${manifest.generationId}.${manifest.storageId}` !== name)
        throw new AppError('integrity', `merged memory ${name} holds the files of ${manifest.storageId}`);
      index.merged.set(manifest.storageId, manifest);
    } catch (error) {
      logger.error({ merged: name, error: errorText(error) }, 'merged memory cannot be used');
    }
  }
  return index;
}

/** Removes the drafts in a directory and names the rest. */
async function sweepAndList(directory: string): Promise<string[]> {
  const names = await readdir(directory);
  const drafts = names.filter((name) => name.startsWith('.tmp-'));
  for (const name of drafts) await rm(path.join(directory, name), { recursive: true, force: true });
  if (drafts.length > 0) await syncDirectory(directory);
  return names.filter((name) => !name.startsWith('.')).toSorted();
}

async function readRetired(directory: string): Promise<readonly string[] | undefined> {
  let text: string;
  try {
    text = await readFile(path.join(directory, retiredFile), 'utf8');
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  const fields = new JsonFields(JSON.parse(text), retiredFile);
  return fields.list('keep', 16, (value) => String(value));
}

/** For a `catch`: swallows the error of a file that is not there, and no other. */
export function ignoreMissing(error: unknown): void {
  if (nodeErrorCode(error) !== 'ENOENT') throw error;
}

/** Finishes what a crash may have cut short after the rename or after the retirement. */
async function settle(
  directory: string,
  manifest: GenerationManifest,
  { retired, readerGid }: { retired: readonly string[] | undefined; readerGid: number | undefined },
): Promise<void> {
  for (const part of Object.keys(manifest.parts)) {
    const file = path.join(directory, part);
    if (retired && !retired.includes(part)) await rm(file, { force: true });
    // A part that is gone is for `open` to report: the others, the disk's above all, may still be of use.
    else await freezeFile(file, readerGid).catch(ignoreMissing);
  }
}
