import { AppError } from '@aviary/core';

/**
 * The qcow2 file format, as far as layers need it: writing an empty image and reading a header.
 * Follows docs/interop/qcow2.txt of QEMU.
 */

const magic = 0x514649fb; // "QFI\xfb"
const headerLength = 104;
const backingFormatExtension = 0xe2792aca;
const externalDataExtension = 0x44415441;
const endOfExtensions = 0;

const incompatible = { dirty: 1n, corrupt: 2n, externalData: 4n, compressionType: 8n, extendedL2: 16n } as const;
const knownIncompatible = Object.values(incompatible).reduce((all, bit) => all | bit, 0n);

/**
 * 128 KiB clusters in 32 subclusters of 4 KiB: a guest's 4 KiB write takes 4 KiB and copies nothing from the base, and one
 * 128 KiB table maps 1 GiB. The same as `-o cluster_size=128k,extended_l2=on`. Refcounts are not lazy: a layer is frozen by
 * flushing and killing its VMM, and lazy ones would leave it marked dirty.
 */
export const clusterBits = 17;
const clusterBytes = 1 << clusterBits;
/** An extended L2 entry takes 16 bytes, so one table covers this much of the disk. */
const bytesPerL1Entry = (clusterBytes / 16) * clusterBytes;
/** Refcounts of 16 bits. */
const refcountOrder = 4;
/** The header, its extensions and the backing file's name must lie in one cluster; QEMU allows names up to this. */
const maxBackingNameBytes = 1_023;
/** Enough for any header, its extensions (some 500 bytes) and its backing file's name in the layouts that QEMU writes. */
export const maxHeaderBytes = 4 * 1024;

/** What an image says of itself. */
export interface Qcow2Header {
  version: 2 | 3;
  virtualBytes: number;
  /** As written in the file: untrusted. Undefined for an image that stands alone. */
  backing: { name: string; format: string | undefined } | undefined;
}

/** The non-zero parts of a new file of `fileBytes`. */
export interface EmptyImage {
  fileBytes: number;
  parts: readonly { offset: number; data: Buffer }[];
}

/** An empty image of `virtualBytes` (a multiple of 512) on top of a backing file. Throws `invalid_request` when the name is too long. */
export function emptyImage({
  virtualBytes,
  backing,
}: {
  virtualBytes: number;
  backing: { name: string; format: 'qcow2' | 'raw' };
}): EmptyImage {
  const name = Buffer.from(backing.name);
  if (name.length > maxBackingNameBytes)
    throw new AppError(
      'invalid_request',
      `cannot make a disk layer: the base's path has ${name.length} bytes, the format allows ${maxBackingNameBytes}`,
    );
  const format = Buffer.from(backing.format);
  const formatLength = Math.ceil(format.length / 8) * 8;
  const nameOffset = headerLength + 8 + formatLength + 8;
  const l1Entries = Math.max(1, Math.ceil(virtualBytes / bytesPerL1Entry));
  const l1Clusters = Math.ceil((l1Entries * 8) / clusterBytes);
  // Clusters: header, refcount table, refcount block, L1 table.
  const clusterCount = 3 + l1Clusters;

  const header = Buffer.alloc(nameOffset + name.length);
  header.writeUInt32BE(magic, 0);
  header.writeUInt32BE(3, 4);
  header.writeBigUInt64BE(BigInt(nameOffset), 8);
  header.writeUInt32BE(name.length, 16);
  header.writeUInt32BE(clusterBits, 20);
  header.writeBigUInt64BE(BigInt(virtualBytes), 24);
  header.writeUInt32BE(l1Entries, 36);
  header.writeBigUInt64BE(BigInt(3 * clusterBytes), 40);
  header.writeBigUInt64BE(BigInt(clusterBytes), 48);
  header.writeUInt32BE(1, 56);
  header.writeBigUInt64BE(incompatible.extendedL2, 72);
  header.writeUInt32BE(refcountOrder, 96);
  header.writeUInt32BE(headerLength, 100);
  header.writeUInt32BE(backingFormatExtension, headerLength);
  header.writeUInt32BE(format.length, headerLength + 4);
  format.copy(header, headerLength + 8);
  name.copy(header, nameOffset);

  const refcountTable = Buffer.alloc(8);
  refcountTable.writeBigUInt64BE(BigInt(2 * clusterBytes));
  const refcountBlock = Buffer.alloc(clusterCount * 2);
  for (let cluster = 0; cluster < clusterCount; cluster++) refcountBlock.writeUInt16BE(1, cluster * 2);
  return {
    fileBytes: clusterCount * clusterBytes,
    parts: [
      { offset: 0, data: header },
      { offset: clusterBytes, data: refcountTable },
      { offset: 2 * clusterBytes, data: refcountBlock },
    ],
  };
}

/**
 * Reads the header in `bytes`, the start of the file called `name` (for messages). Throws `integrity` for what is not
 * qcow2, is damaged, or needs something that layers never use, an external data file above all.
 */
export function parseHeader(bytes: Buffer, name: string): Qcow2Header {
  const refuse = (why: string) => new AppError('integrity', `cannot use disk layer ${name}: ${why}`);
  if (bytes.length < 72 || bytes.readUInt32BE(0) !== magic) throw refuse('it is not a qcow2 image');
  const version = bytes.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw refuse(`qcow2 version ${version} is unknown`);
  if (version === 3 && bytes.length < headerLength) throw refuse('its header is cut off');
  const features = version === 3 ? bytes.readBigUInt64BE(72) : 0n;
  if (features & incompatible.corrupt) throw refuse('it is marked corrupt');
  if (features & incompatible.externalData) throw refuse('it keeps its data in another file');
  if (features & ~knownIncompatible) throw refuse(`it uses unknown features (0x${features.toString(16)})`);
  if (bytes.readUInt32BE(32) !== 0) throw refuse('it is encrypted');
  const virtualBytes = bytes.readBigUInt64BE(24);
  if (virtualBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse('its size is out of range');

  const backingOffset = bytes.readBigUInt64BE(8);
  const extensionsStart = version === 3 ? bytes.readUInt32BE(100) : 72;
  if (version === 3 && extensionsStart < headerLength) throw refuse('its header is too short');
  const end = backingOffset === 0n ? bytes.length : Math.min(bytes.length, Number(backingOffset));
  const extensions = readExtensions(bytes, { start: extensionsStart, end });
  if (!extensions) throw refuse('its header extensions are damaged');
  if (extensions.has(externalDataExtension)) throw refuse('it keeps its data in another file');
  const header = { version, virtualBytes: Number(virtualBytes) } as const;
  if (backingOffset === 0n) return { ...header, backing: undefined };

  const nameLength = bytes.readUInt32BE(16);
  if (nameLength === 0 || nameLength > maxBackingNameBytes || backingOffset + BigInt(nameLength) > BigInt(bytes.length))
    throw refuse("its base's name is out of range");
  const backingName = bytes.toString('utf8', Number(backingOffset), Number(backingOffset) + nameLength);
  return { ...header, backing: { name: backingName, format: extensions.get(backingFormatExtension)?.toString() } };
}

/** Extensions by type; undefined when one does not fit. */
function readExtensions(
  bytes: Buffer,
  { start, end }: { start: number; end: number },
): Map<number, Buffer> | undefined {
  const found = new Map<number, Buffer>();
  let at = start;
  while (at + 8 <= end) {
    const type = bytes.readUInt32BE(at);
    if (type === endOfExtensions) return found;
    const length = bytes.readUInt32BE(at + 4);
    if (at + 8 + length > end) return undefined;
    found.set(type, bytes.subarray(at + 8, at + 8 + length));
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}
