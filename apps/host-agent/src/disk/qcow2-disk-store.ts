import { closeSync, fstatSync, openSync, readSync, realpathSync } from 'node:fs';
import { constants, type FileHandle, open, rename, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { AppError } from '@aviary/core';
import { hostDiskFull, nodeErrorCode, runProgram, syncDirectory } from '@aviary/service-kit';
import { copyDurably } from '../memory/sparse-copy.ts';
import { fromDiskError } from './disk-errors.ts';
import type { DiskLayer, DiskStore } from './disk-store.ts';
import { clusterBits, emptyImage, maxHeaderBytes, parseHeader } from './qcow2-header.ts';

const mib = 1024 * 1024;

export interface Qcow2DiskStoreOptions {
  /** Every layer and base lies under it. A layer that leads out of it, by name or by link, is refused. Absolute. */
  dataDir: string;
  /** Starts `qemu-img`. */
  run?: typeof runProgram;
  /** Layers that one disk may consist of. Default 64: beyond that, reads get slow and descriptors many. Flatten before. */
  maxLayers?: number;
  /** For flattening, which copies the whole disk. Default 600 000. */
  flattenTimeoutMs?: number;
}

interface InspectedLayer {
  virtualBytes: number;
  /** The layer right below, checked to lie in the data directory. */
  below: DiskLayer | undefined;
}

/**
 * Layers as qcow2 files. New ones are written directly, because starting `qemu-img` takes far longer than the three small
 * writes that an empty layer consists of; headers are read directly, because a tool that follows whatever name a header
 * holds must not see it before it is checked.
 */
export class Qcow2DiskStore implements DiskStore {
  readonly name = 'qcow2';
  readonly maxLayers: number;
  readonly #options: Required<Qcow2DiskStoreOptions>;
  #dataDirectory: string | undefined;

  constructor(options: Qcow2DiskStoreOptions) {
    this.#options = { run: runProgram, maxLayers: 64, flattenTimeoutMs: 600_000, ...options };
    this.maxLayers = this.#options.maxLayers;
  }

  layerAt(file: string): DiskLayer {
    return { path: file, format: 'qcow2' };
  }

  async createLayer(options: { path: string; base: DiskLayer; sizeMib: number; uid: number }): Promise<DiskLayer> {
    const { path: file, base, sizeMib, uid } = options;
    this.#checkPlace(file);
    const [lowest, ...others] = this.#inspectChain(base);
    if (others.length + 2 > this.#options.maxLayers)
      throw new AppError('invalid_state', `cannot put a layer on ${base.path}: its chain is full; flatten it first`);
    if (!Number.isSafeInteger(sizeMib) || sizeMib < 1 || sizeMib * mib < lowest.virtualBytes)
      throw new AppError(
        'invalid_request',
        `cannot make a disk of ${sizeMib} MiB: its base has ${Math.ceil(lowest.virtualBytes / mib)} MiB`,
      );
    const image = emptyImage({ virtualBytes: sizeMib * mib, backing: { name: base.path, format: base.format } });
    await writeNewFile(file, async (handle) => {
      for (const { offset, data } of image.parts) await handle.write(data, 0, data.length, offset);
      await handle.truncate(image.fileBytes);
      await handle.chown(uid, uid);
    });
    return this.layerAt(file);
  }

  async sync(layer: DiskLayer): Promise<void> {
    await this.#withFile(layer.path, 'flush', (handle) => handle.sync());
    await syncDirectory(path.dirname(layer.path));
  }

  async freeze(layer: DiskLayer): Promise<void> {
    await this.#withFile(layer.path, 'freeze', async (handle) => {
      await handle.chmod(0o444);
      await handle.chown(process.getuid?.() ?? 0, process.getgid?.() ?? 0);
      await handle.sync();
    });
    await syncDirectory(path.dirname(layer.path));
  }

  async allocatedBytes(layer: DiskLayer): Promise<number> {
    return this.#withFile(layer.path, 'measure', async (handle) => (await handle.stat()).blocks * 512);
  }

  async virtualSizeMib(layer: DiskLayer): Promise<number> {
    return Math.ceil(this.#inspect(layer).virtualBytes / mib);
  }

  async chain(layer: DiskLayer): Promise<DiskLayer[]> {
    return this.#inspectChain(layer).flatMap(({ below }) => (below ? [below] : []));
  }

  async flatten({
    layer,
    below,
    path: file,
  }: {
    layer: DiskLayer;
    below?: readonly DiskLayer[];
    path: string;
  }): Promise<DiskLayer> {
    this.#checkPlace(file);
    this.#inspectChain(layer);
    const temporary = `${file}.part`;
    // A VMM that its guest has taken over goes on writing whatever it was told.
    const source: DiskLayer = { ...layer, path: `${file}.source` };
    // Taken first, so that two writers never share a file and nothing that exists is overwritten.
    await writeNewFile(file, async () => undefined);
    try {
      await copyDurably(layer.path, source.path);
      // Before qemu-img opens anything: it would follow the names in the headers wherever they lead.
      const found = await this.chain(source);
      if (below && !isDeepStrictEqual(found, [...below]))
        throw new AppError('integrity', `disk layer ${layer.path} names other bases than it was made on`);
      await this.#convert(source, temporary);
      await this.#withFile(temporary, 'flush', (handle) => handle.sync());
      await rename(temporary, file);
      await syncDirectory(path.dirname(file));
    } catch (error) {
      await Promise.all([temporary, file].map((each) => rm(each, { force: true })));
      throw fromDiskError(error, `flatten disk layer ${layer.path}`);
    } finally {
      await rm(source.path, { force: true });
    }
    return this.layerAt(file);
  }

  async remove(layer: DiskLayer): Promise<void> {
    try {
      this.#checkPlace(layer.path);
      await rm(layer.path, { force: true });
    } catch (error) {
      const appError = fromDiskError(error, `remove disk layer ${layer.path}`);
      if (appError.code !== 'not_found') throw appError; // its directory is gone: so is the layer
    }
  }

  async #convert(layer: DiskLayer, target: string): Promise<void> {
    const created = `cluster_size=${1 << clusterBits},extended_l2=on`;
    const args = ['convert', '-f', layer.format, '-O', 'qcow2', '-o', created, '-S', '4k', layer.path, target];
    try {
      await this.#options.run('qemu-img', args, { timeoutMs: this.#options.flattenTimeoutMs });
    } catch (error) {
      // qemu-img tells why only in words. What it wrote so far is still there, so a full file system shows.
      const { bavail, bsize } = await statfs(path.dirname(target));
      if (bavail * bsize >= 4 * mib) throw error;
      throw hostDiskFull(`flatten disk layer ${layer.path}`, error);
    }
  }

  /** `layer` first, then what is below it. Throws for a chain that is broken, too long, circular or leads out of the data directory. */
  #inspectChain(layer: DiskLayer): [InspectedLayer, ...InspectedLayer[]] {
    const first = this.#inspect(layer);
    const chain: [InspectedLayer, ...InspectedLayer[]] = [first];
    for (let below = first.below; below; ) {
      if (chain.length >= this.#options.maxLayers)
        throw new AppError(
          'integrity',
          `cannot use disk layer ${layer.path}: more than ${this.#options.maxLayers} layers, or a circle of them`,
        );
      const next = this.#inspect(below);
      chain.push(next);
      below = next.below;
    }
    return chain;
  }

  /**
   * Reads one layer's header, on this thread: a chain has up to {@link maxLayers} of them, one after the other, and each of the half a dozen
   * calls takes microseconds, while a hand-over to another thread takes a hundred.
   */
  #inspect(layer: DiskLayer): InspectedLayer {
    return this.#withOpen(layer.path, 'open', (fd, size) => {
      if (layer.format === 'raw') return { virtualBytes: size, below: undefined };
      const buffer = Buffer.alloc(Math.min(size, maxHeaderBytes));
      const bytesRead = readSync(fd, buffer, 0, buffer.length, 0);
      const { virtualBytes, backing } = parseHeader(buffer.subarray(0, bytesRead), layer.path);
      if (!backing) return { virtualBytes, below: undefined };
      return { virtualBytes, below: this.#checkBacking(layer, backing) };
    });
  }

  /** A header could come from anywhere: its words are only believed when they name a file of ours and a format. */
  #checkBacking(layer: DiskLayer, { name, format }: { name: string; format: string | undefined }): DiskLayer {
    const refuse = (why: string) => new AppError('integrity', `cannot use disk layer ${layer.path}: ${why}`);
    // Without a format QEMU would guess it from content that a guest may have written.
    if (format !== 'qcow2' && format !== 'raw') throw refuse(`its base's format is ${format ?? 'not given'}`);
    if (!path.isAbsolute(name)) throw refuse("its base's name is not an absolute path");
    try {
      this.#checkPlace(name);
    } catch (error) {
      throw new AppError(
        'integrity',
        `cannot use disk layer ${layer.path}: its base is not one of this host's layers`,
        { cause: error },
      );
    }
    return { path: name, format };
  }

  /** Throws unless `file` is named absolutely and its directory lies in the data directory, links followed. */
  #checkPlace(file: string): void {
    this.#dataDirectory ??= realpathSync(this.#options.dataDir);
    const root = this.#dataDirectory;
    const refuse = () =>
      new AppError('invalid_request', `disk layer ${file} must be an absolute path in the data directory`);
    if (!path.isAbsolute(file) || file.includes('\0') || path.normalize(file) !== file) throw refuse();
    let directory: string;
    try {
      directory = realpathSync.native(path.dirname(file));
    } catch (error) {
      throw fromDiskError(error, `find the directory of disk layer ${file}`);
    }
    if (directory !== root && !directory.startsWith(`${root}${path.sep}`)) throw refuse();
  }

  /** Opens an existing layer, for work on this thread. Never through a link: the check of its directory would say nothing about the file. */
  #withOpen<T>(file: string, verb: string, work: (fd: number, size: number) => T): T {
    try {
      this.#checkPlace(file);
      const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      try {
        const stats = fstatSync(fd);
        if (!stats.isFile()) throw new AppError('integrity', `disk layer ${file} is not a regular file`);
        return work(fd, stats.size);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      throw this.#layerError(error, file, verb);
    }
  }

  /** As {@link #withOpen}, for work that waits. */
  async #withFile<T>(file: string, verb: string, work: (handle: FileHandle) => Promise<T>): Promise<T> {
    try {
      this.#checkPlace(file);
      const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      try {
        if (!(await handle.stat()).isFile())
          throw new AppError('integrity', `disk layer ${file} is not a regular file`);
        return await work(handle);
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw this.#layerError(error, file, verb);
    }
  }

  #layerError(error: unknown, file: string, verb: string): AppError {
    if (nodeErrorCode(error) === 'ELOOP')
      return new AppError('integrity', `cannot ${verb} disk layer ${file}: it is a symbolic link`, { cause: error });
    return fromDiskError(error, `${verb} disk layer ${file}`);
  }
}

/** Creates `file` (0600) and fills it; removes it again on any error. Throws `already_exists` and leaves what is there. */
async function writeNewFile(file: string, fill: (handle: FileHandle) => Promise<void>): Promise<void> {
  const what = `create disk layer ${file}`;
  const handle = await open(file, 'wx', 0o600).catch((error: unknown) => {
    throw fromDiskError(error, what);
  });
  try {
    await fill(handle);
  } catch (error) {
    await rm(file, { force: true });
    throw fromDiskError(error, what);
  } finally {
    await handle.close();
  }
}
