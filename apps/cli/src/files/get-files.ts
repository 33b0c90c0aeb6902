import { chmod, lstat, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import type { FileEntry } from '@aviary/sdk';
import { type CopyContext, type CopyCount, forEachAtOnce, noCopies } from './copy-context.ts';
import { localError } from './local-file.ts';

const anyExecute = 0o111;
const executableMode = 0o755;
/** Levels of a listing; deeper ones are listed from there on. */
const listedLevels = 16;

/** Where a copy of `source` goes: into `target` when that is a directory, or is written as one. */
export async function placeFor(source: string, target: string): Promise<string> {
  const isDirectory = await lstat(target).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  const name = path.posix.basename(source);
  return isDirectory || /[/\\]$/.test(target) ? path.join(target, name) : target;
}

/** Copies one file of the guest to this machine. */
export async function getFile(
  { client, sandboxId, options }: CopyContext,
  source: string,
  place: string,
): Promise<number> {
  const data = await client.files.read(sandboxId, source, options);
  try {
    await mkdir(path.dirname(place), { recursive: true });
    await writeFile(place, data);
  } catch (error) {
    throw localError(`write ${place}`, error);
  }
  return data.length;
}

/**
 * Copies a directory of the guest with all in it. The guest is not trusted: nothing is written outside of `place`, not through links either, so
 * links are made last, and one that is in the way is replaced.
 */
export async function getDirectory(context: CopyContext, source: string, place: string): Promise<CopyCount> {
  const { client, sandboxId, options, output } = context;
  const count = noCopies();
  await makePlace(place);
  count.directories++;
  const links: { to: string; target: string }[] = [];
  const files: { entry: FileEntry; to: string }[] = [];
  // What is made here is no link, and only what is directly in it is written: a name that leads through anything else leads anywhere.
  const made = new Set([place]);
  // As the guest calls it: `source` may be relative to a home there. The first entry is in the directory itself.
  let base: string | undefined;
  const walk = async (directory: string, above: number): Promise<void> => {
    for await (const entry of client.files.entries(sandboxId, directory, { ...options, depth: listedLevels })) {
      base ??= path.posix.dirname(entry.path);
      const parts = partsBelow(base, entry.path);
      const to = path.join(place, ...parts);
      if (!made.has(path.dirname(to))) throw notBelow(path.posix.dirname(entry.path), entry.path);
      if (entry.symlink_target !== null) links.push({ to, target: entry.symlink_target });
      else if (entry.type === 'file') files.push({ entry, to });
      else if (entry.type !== 'directory') count.skipped.push(entry.path);
      else {
        count.directories++;
        await replaceLink(to);
        await makePlace(to);
        made.add(to);
        if (parts.length - above === listedLevels) await walk(entry.path, parts.length);
      }
    }
  };
  await walk(source, 0);
  await forEachAtOnce(files, async ({ entry, to }) => {
    const data = await client.files.read(sandboxId, entry.path, options);
    try {
      await replaceLink(to);
      await writeFile(to, data);
      if (entry.mode & anyExecute) await chmod(to, executableMode);
    } catch (error) {
      throw localError(`write ${to}`, error);
    }
    count.files++;
    count.bytes += data.length;
    output.progress(`${count.files} of ${files.length} files`);
  });
  for (const { to, target } of links) {
    try {
      await replaceLink(to);
      await symlink(target, to);
    } catch (error) {
      throw localError(`make the link ${to}`, error);
    }
    count.links++;
  }
  return count;
}

async function makePlace(place: string): Promise<void> {
  await mkdir(place, { recursive: true }).catch((error: unknown) => {
    throw localError(`create ${place}`, error);
  });
}

/** A link in the way, perhaps of an earlier copy, would lead what is written somewhere else. */
async function replaceLink(place: string): Promise<void> {
  const present = await lstat(place).catch(() => undefined);
  if (present?.isSymbolicLink()) await rm(place);
}

/** The names that lead from a directory of the guest down to what the guest says is in it. */
function partsBelow(directory: string, guestPath: string): string[] {
  const top = directory === '/' ? '/' : `${directory}/`;
  const parts = guestPath.slice(top.length).split('/');
  const isBelow = guestPath.startsWith(top) && parts.every((part) => part !== '' && !/^\.\.?$/.test(part));
  if (!isBelow || parts.some((part) => part.includes(path.sep))) {
    throw notBelow(directory, guestPath);
  }
  return parts;
}

function notBelow(directory: string, guestPath: string): AppError {
  return new AppError('integrity', `the guest listed ${JSON.stringify(guestPath)} as something in ${directory}`);
}
