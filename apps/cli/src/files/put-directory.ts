import { lstat, readdir, readlink } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { AviaryError } from '@aviary/sdk';
import { type CopyContext, type CopyCount, forEachAtOnce, noCopies } from './copy-context.ts';
import { localError, readLocal } from './local-file.ts';

/** Arguments of one command in the guest, well below what a command line may have. */
const argumentsAtOnce = 200;
const anyExecute = 0o111;

/** Copies a local directory with all in it: directories, files, which of them may be executed, and links as they are. */
export async function putDirectory(context: CopyContext, source: string, target: string): Promise<CopyCount> {
  const { client, sandboxId, options, output } = context;
  const count = noCopies();
  const executables: string[] = [];
  const links: string[] = [];
  const files: { from: string; to: string }[] = [];
  await makeDirectory(context, target);
  const walk = async (directory: string, place: string): Promise<void> => {
    count.directories++;
    for (const { name } of await readdir(directory, { withFileTypes: true })) {
      options.signal.throwIfAborted();
      const [from, to] = [path.join(directory, name), path.posix.join(place, name)];
      const stats = await lstat(from);
      if (stats.isDirectory()) {
        await makeDirectory(context, to);
        await walk(from, to);
      } else if (stats.isSymbolicLink()) links.push(await readlink(from), to);
      else if (stats.isFile()) {
        files.push({ from, to });
        if (stats.mode & anyExecute) executables.push(to);
      } else count.skipped.push(from);
    }
  };
  await walk(source, target).catch((error: unknown) => {
    throw error instanceof AviaryError || options.signal.aborted ? error : localError(`read ${source}`, error);
  });
  await forEachAtOnce(files, async ({ from, to }) => {
    const data = await readLocal(from);
    await client.files.write(sandboxId, { path: to, data }, options);
    count.files++;
    count.bytes += data.size;
    output.progress(`${count.files} of ${files.length} files`);
  });
  await inGuest(context, 'chmod +x -- "$@"', executables);
  await inGuest(context, 'while [ $# -gt 1 ]; do ln -sfn -- "$1" "$2" || exit; shift 2; done', links);
  count.links = links.length / 2;
  return count;
}

async function makeDirectory({ client, sandboxId, options }: CopyContext, place: string): Promise<void> {
  await client.files.mkdir(sandboxId, place, options).catch((error: unknown) => {
    if (!(error instanceof AviaryError) || error.code !== 'already_exists') throw error;
  });
}

/** The API writes content; what else a file is, the guest's own programs know how to set. */
async function inGuest(context: CopyContext, script: string, args: readonly string[]): Promise<void> {
  const { user, signal } = context.options;
  for (let at = 0; at < args.length; at += argumentsAtOnce) {
    const command = { cmd: '/bin/sh', args: ['-c', script, 'sh', ...args.slice(at, at + argumentsAtOnce)], cwd: '/' };
    const request = { ...command, ...(user === undefined ? {} : { user }) };
    const { exit_code, stderr } = await context.client.sandboxes.exec(context.sandboxId, request, { signal });
    if (exit_code !== 0) {
      throw new AppError('invalid_state', `copied, but the guest cannot set modes and links: ${String(stderr).trim()}`);
    }
  }
}
