import { fileURLToPath } from 'node:url';
import { AppError } from '@aviary/core';
import type { ImageProgress } from '@aviary/images';
import type { Output } from '../output.ts';

// Loaded when used: the builders bring a bundler along, which a command like `aviary run` should not wait for.
const loadBuilders = () => import('@aviary/images');

/** True when the guest images of `dataDir` are all there. */
export async function hasImages(dataDir: string): Promise<boolean> {
  const { loadImages } = await loadBuilders();
  try {
    return (await loadImages(dataDir)) !== undefined;
  } catch {
    return false; // damaged: a build repairs what is missing
  }
}

/** Names of the Debian packages that this machine lacks. */
export async function missingPackageNames(): Promise<readonly string[]> {
  const { missingHostPackages } = await loadBuilders();
  return (await missingHostPackages()).map(({ name }) => name);
}

/** Installs what this machine lacks to build images and run microVMs. Resolves with the names of what it installed. */
export async function ensureHostPackages(output: Output, signal: AbortSignal): Promise<readonly string[]> {
  const { installHostPackages, missingHostPackages } = await loadBuilders();
  const missing = await missingHostPackages();
  if (missing.length === 0) return [];
  await installHostPackages({ missing, signal, onProgress: (line) => output.progress(`  ${line}`) });
  const names = missing.map(({ name }) => name);
  output.progress(`  installed ${names.join(', ')}`, true);
  return names;
}

export interface ImagesRequest {
  dataDir: string;
  /** They are used as they are, and have to be there. */
  arePrebuilt?: boolean;
}

/** Brings the guest images up to date with this checkout, showing a bar; says nothing when they are. */
export async function ensureImages(
  { dataDir, arePrebuilt = false }: ImagesRequest,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  if (arePrebuilt) {
    if (await hasImages(dataDir)) return;
    const fix = `copy them to ${dataDir}/images, or build them by unsetting AVIARY_PREBUILT_IMAGES`;
    throw new AppError('invalid_state', `cannot start: there are no prebuilt guest images; ${fix}`);
  }
  const { buildImages } = await loadBuilders();
  const guestAgentEntry = fileURLToPath(new URL('../../../guest-agent/src/main.ts', import.meta.url));
  await buildImages({ dataDir, guestAgentEntry, signal, onProgress: (progress) => showProgress(output, progress) });
}

const barWidth = 24;

function showProgress(output: Output, progress: ImageProgress): void {
  switch (progress.type) {
    case 'waiting':
      output.progress(`  waiting: ${progress.detail}`);
      break;
    case 'started':
    case 'working':
      output.progress(`  ${bar(progress.fraction)} ${progress.step}: ${progress.detail}`);
      break;
    case 'finished': {
      const took = `${progress.step}: built in ${(progress.elapsedMs / 1_000).toFixed(1)} s`;
      if (!progress.isCached) output.progress(`  ${bar(progress.fraction)} ${took}`, true);
      break;
    }
    default:
      progress satisfies never;
  }
}

function bar(fraction: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, fraction)) * barWidth);
  const percent = String(Math.round(fraction * 100)).padStart(3);
  return `[${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}] ${percent}%`;
}
