import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { AppError } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { connectSocket, type QmpClient } from './qmp-client.ts';

const loadTimeoutMs = 30_000;

/** Streams a saved device state into a QEMU that was started with `-incoming defer`. It is paused after that. */
export async function loadState(
  qmp: QmpClient,
  { statePath, runDirectory }: { statePath: string; runDirectory: string },
  signal: AbortSignal,
): Promise<void> {
  const socketPath = path.join(runDirectory, 'incoming.sock');
  await rm(socketPath, { force: true });
  await qmp.execute('migrate-incoming', { uri: `unix:${socketPath}` });
  const socket = await connectSocket(socketPath, loadTimeoutMs);
  try {
    await pipeline(createReadStream(statePath), socket, { signal });
  } catch (error) {
    signal.throwIfAborted();
    // QEMU closes the stream as soon as it has read the last byte; whether the state was whole is what it says below.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw error;
  }
  const options = { what: `loading the device state ${statePath}`, timeoutMs: loadTimeoutMs, intervalMs: 1, signal };
  await waitFor(options, async () => {
    const { status } = (await qmp.execute('query-migrate')) as { status?: unknown };
    if (status === 'failed' || status === 'cancelled') {
      throw new AppError('integrity', `cannot load the device state ${statePath}: the VMM refused it`);
    }
    return status === 'completed';
  });
  await rm(socketPath, { force: true });
}
