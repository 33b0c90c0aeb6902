/**
 * The formats that a disk's file may have, as records and manifests name them and VMMs are told them. Which of them layers have is the matter of the
 * store that makes them.
 */
export const diskFormats = ['qcow2', 'raw'] as const;
export type DiskFormat = (typeof diskFormats)[number];

/** A sandbox's writable disk: copy-on-write layers over an immutable base. Every path is absolute. */
export interface DiskLayer {
  path: string;
  format: DiskFormat;
}

/** How disks are layered on this host. Bases and frozen layers are never written again. */
export interface DiskStore {
  readonly name: 'qcow2' | 'dm-snapshot';
  /** Layers that one disk may consist of, the writable one included. `createLayer` refuses one more: flatten before. */
  readonly maxLayers: number;
  /** The layer that {@link createLayer} makes at `path`, whether or not it is there. */
  layerAt(path: string): DiskLayer;
  /**
   * Makes a new empty layer at `path` on top of `base`, `sizeMib` large as the guest sees it (at least the base's size), owned
   * by `uid`. The space is taken as the guest writes. Throws `disk_full`, and leaves nothing behind on any error.
   */
  createLayer(options: { path: string; base: DiskLayer; sizeMib: number; uid: number }): Promise<DiskLayer>;
  /** Flushes a layer to stable storage. The VMM that had it open has flushed or ended. */
  sync(layer: DiskLayer): Promise<void>;
  /**
   * Makes a layer immutable: flushed, owned by the agent, readable by every VMM and writable by none, so that layers of
   * other sandboxes may be put on top of it. The directories above it decide who can reach it. The VMM that wrote it has ended.
   */
  freeze(layer: DiskLayer): Promise<void>;
  /** Bytes that a layer really takes. */
  allocatedBytes(layer: DiskLayer): Promise<number>;
  /** Size of the disk as the guest sees it, MiB. */
  virtualSizeMib(layer: DiskLayer): Promise<number>;
  /** Layers under `layer`, nearest first: what must be kept while it is. */
  chain(layer: DiskLayer): Promise<DiskLayer[]>;
  /**
   * Writes one self-contained layer at `path` from a whole chain, as it is now; its VMM may have it open. Throws `integrity` when what lies under it
   * is not `below`, if that is given: its VMM may have changed that since.
   */
  flatten(options: { layer: DiskLayer; below?: readonly DiskLayer[]; path: string }): Promise<DiskLayer>;
  /** Removes a layer. No error when it is gone. */
  remove(layer: DiskLayer): Promise<void>;
}
