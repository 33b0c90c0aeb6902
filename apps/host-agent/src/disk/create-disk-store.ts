import type { DiskStore } from './disk-store.ts';
import { Qcow2DiskStore } from './qcow2-disk-store.ts';

/** The disk store of this host: the one place that names a driver. */
export function createDiskStore({ dataDir }: { dataDir: string }): DiskStore {
  return new Qcow2DiskStore({ dataDir });
}
