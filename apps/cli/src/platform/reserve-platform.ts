import { access, mkdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { type CliConfig, localUrl } from '../config.ts';
import { choosePorts } from './choose-ports.ts';
import { takePlatformLock } from './platform-lock.ts';

/** A host registers with whole GiB, and needs one to offer. */
const minimumFreeBytes = 2 ** 30;

/** The right to run the platform of one data directory, and where it will listen. Disposing gives it back. */
export interface PlatformReservation extends AsyncDisposable {
  /** With the ports that were chosen. */
  config: CliConfig;
  apiUrl: string;
}

/**
 * Sees that a platform can run here before anything is built for it: nobody else runs this data directory's, its ports are free, its file
 * system has room. Throws AppError that names what is in the way and what to set.
 */
export async function reservePlatform({
  config,
  signal,
  onNote,
  freeBytes = measureFreeBytes,
}: {
  config: CliConfig;
  signal: AbortSignal;
  onNote: (text: string) => void;
  /** Measures the room on a directory's file system. */
  freeBytes?: (directory: string) => Promise<number>;
}): Promise<PlatformReservation> {
  await using cleanUp = new AsyncDisposableStack();
  // 0711: the microVMs' unprivileged users reach their own files by name, and see nothing else.
  await mkdir(config.dataDir, { recursive: true, mode: 0o711 });
  const lock = cleanUp.use(await takePlatformLock(config.dataDir));
  await requireSpace(config.dataDir, await freeBytes(config.dataDir));
  const { isAfterCrash } = lock;
  const ports = await choosePorts({ config, isAfterCrash, signal, onNote });
  const apiUrl = localUrl(config.controlPlaneHost, ports.controlPlane);
  await lock.announce(apiUrl);
  const owned = cleanUp.move();
  return {
    config: { ...config, controlPlanePort: ports.controlPlane, agentPort: ports.agent },
    apiUrl,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A host that registered before may start on a full disk: its sandboxes can be reached, and removed to free it. */
async function requireSpace(dataDir: string, freeBytes: number): Promise<void> {
  const isRegistered = await access(path.join(dataDir, 'host/credentials.json')).then(
    () => true,
    () => false,
  );
  if (isRegistered || freeBytes >= minimumFreeBytes) return;
  throw new AppError(
    'disk_full',
    `${dataDir} has ${Math.floor(freeBytes / 2 ** 20)} MiB free, and Aviary needs 1 GiB there for its host, 3 GiB to build the guest images; free some, or set AVIARY_DATA_DIR to another place`,
    { details: { data_dir: dataDir, free_mb: Math.floor(freeBytes / 2 ** 20) } },
  );
}

async function measureFreeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}
