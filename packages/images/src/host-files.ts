import { access } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { AppError } from '@aviary/core';

/** Programs of this machine that are copied into guests. Absolute paths. */
export interface HostFiles {
  node: string;
  busybox: string;
  tini: string;
  resize2fs: string;
}

/** Where this machine has them: Node from the pinned npm package, the rest from Debian packages. */
export async function findHostFiles(): Promise<HostFiles> {
  return {
    node: path.join(path.dirname(createRequire(import.meta.url).resolve('node/package.json')), 'bin/node'),
    busybox: await firstOf(['/usr/bin/busybox', '/bin/busybox'], 'busybox-static'),
    tini: await firstOf(['/usr/bin/tini-static'], 'tini'),
    resize2fs: await firstOf(['/usr/sbin/resize2fs', '/sbin/resize2fs'], 'e2fsprogs'),
  };
}

async function firstOf(candidates: readonly string[], packageName: string): Promise<string> {
  for (const candidate of candidates) {
    if (
      await access(candidate).then(
        () => true,
        () => false,
      )
    )
      return candidate;
  }
  throw new AppError('not_found', `cannot find ${candidates.join(' or ')}: install the package ${packageName}`);
}
