import { mkdir, rm } from 'node:fs/promises';
import { AppError } from '@aviary/core';
import { FileLock } from '@aviary/linux/file-lock';
import { FaultPoints } from '@aviary/service-kit';
import type { StepContext } from './build-step.ts';
import { findHostFiles, type HostFiles } from './host-files.ts';
import { type HostPackage, missingHostPackages } from './host-packages.ts';
import { type ImageSet, storeImages } from './image-set.ts';
import { buildInitramfs } from './initramfs.ts';
import { buildKernel } from './kernel.ts';
import { imagesLayout } from './layout.ts';
import { buildMinimalRootFs } from './minimal-root-fs.ts';
import { boundRunner, type ProgramRunner } from './program-runner.ts';
import { type ImageProgress, ProgressCounter } from './progress.ts';
import { architectureFor, minimalRootFs } from './recipe.ts';
import { buildToolbox } from './toolbox.ts';

export interface BuildImagesOptions {
  dataDir: string;
  /** The guest agent's `main.ts`. */
  guestAgentEntry: string;
  onProgress?: (progress: ImageProgress) => void;
  signal?: AbortSignal;
  /** Makes the kernel and the root file system again from today's packages. What older snapshots use stays. */
  refresh?: boolean;
}

/** What a build takes from its machine; tests replace it. */
export interface BuildImagesDeps {
  run: ProgramRunner;
  hostFiles: () => Promise<HostFiles>;
  missingPackages: () => Promise<readonly HostPackage[]>;
  faults: FaultPoints;
  elapsed: () => number;
  /** Files of the root file system belong to users that only root may give them to. */
  isRoot: boolean;
}

const systemDeps: BuildImagesDeps = {
  run: boundRunner,
  hostFiles: findHostFiles,
  missingPackages: () => missingHostPackages({ purposes: ['images'] }),
  faults: new FaultPoints(),
  elapsed: () => performance.now(),
  isRoot: process.getuid?.() === 0,
};

/**
 * Builds what guests boot from into `DATA/images` and resolves with it. Parts whose inputs have not changed are kept, so a
 * second call costs little and a build that was killed goes on where it stopped. One builder works per data directory;
 * another waits for it. Throws `invalid_state` naming the packages that this machine lacks.
 */
export async function buildImages(
  options: BuildImagesOptions,
  overrides: Partial<BuildImagesDeps> = {},
): Promise<ImageSet> {
  const deps = { ...systemDeps, ...overrides };
  const { dataDir, onProgress = () => undefined } = options;
  const missing = await deps.missingPackages();
  if (missing.length > 0) {
    const names = missing.map(({ name }) => name);
    throw new AppError('invalid_state', `cannot build guest images: install ${names.join(', ')} first`, {
      details: { packages: names },
    });
  }
  const layout = imagesLayout(dataDir);
  // VMMs run under users of their own and pass through the data directory to these files.
  await mkdir(dataDir, { recursive: true, mode: 0o711 });
  await mkdir(layout.root, { recursive: true, mode: 0o755 });
  const progress = new ProgressCounter(onProgress);
  const onWait = () => progress.waiting('another process is building these images');
  const waiting = { timeoutMs: Infinity, onWait, ...(options.signal ? { signal: options.signal } : {}) };
  using _lock = await FileLock.acquire(layout.lock, waiting);
  return await buildLocked(options, { deps, progress });
}

async function buildLocked(
  options: BuildImagesOptions,
  { deps, progress }: { deps: BuildImagesDeps; progress: ProgressCounter },
): Promise<ImageSet> {
  const { dataDir, guestAgentEntry, refresh = false } = options;
  const layout = imagesLayout(dataDir);
  await rm(layout.temporary, { recursive: true, force: true });
  const failed = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failed.signal]) : failed.signal;
  const context: StepContext = {
    layout,
    run: deps.run,
    progress,
    faults: deps.faults,
    elapsed: deps.elapsed,
    signal,
    isRefresh: refresh,
  };
  const architecture = architectureFor();
  const files = await deps.hostFiles();
  // The root file system waits mostly for the network and for dpkg; the rest fits beside it on a second core.
  const [boot, minimal] = await together(failed, [
    async () => {
      const kernel = await buildKernel(context, architecture);
      const initramfs = await buildInitramfs(context, { kernel, architecture, files });
      const toolbox = await buildToolbox(context, { kernel, guestAgentEntry, architecture, files });
      return { kernel, initramfs, toolbox };
    },
    () => buildMinimalRootFs(context, deps),
  ]);
  await rm(layout.temporary, { recursive: true, force: true });
  const images: ImageSet = {
    kernel: { path: boot.kernel.path, version: boot.kernel.id },
    initramfs: boot.initramfs,
    toolbox: boot.toolbox,
    minimal: { rootfsPath: minimal.path, sizeMib: minimalRootFs.sizeMib, id: minimal.id },
  };
  await deps.faults.hit('images.before-descriptor');
  await storeImages(dataDir, images);
  return images;
}

/** Runs both; when one fails the other is aborted and awaited, and the first failure is thrown. */
async function together<A, B>(
  failed: AbortController,
  [first, second]: [() => Promise<A>, () => Promise<B>],
): Promise<[A, B]> {
  const orAbort = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  };
  const [a, b] = await Promise.allSettled([orAbort(first), orAbort(second)]);
  if (a.status === 'rejected' || b.status === 'rejected') throw failed.signal.reason;
  return [a.value, b.value];
}
