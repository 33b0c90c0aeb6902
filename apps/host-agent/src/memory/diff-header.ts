import { crc32 } from 'node:zlib';
import { AppError, asId } from '@aviary/core';
import { blockSize, type Mapping, type MappingEntry, totalMappingFault } from './mapping.ts';

/**
 * The on-disk form of a memory diff's header and mapping table (README.md, "memory.diff"). Little-endian. The header is the
 * file's first block; the table lies behind the packed blocks, because nobody knows how many there are until the last one has
 * been streamed. The header goes in last: a file that was cut off while it was written has no magic.
 */
export interface DiffHeader {
  /** Guest memory size. */
  memoryBytes: number;
  /** Counts a sandbox's generations, from 1. */
  generationNumber: number;
  /** The id that entries use for this file's own blocks. */
  id: string;
  /** What the diff was taken against; the nil id when the mapping needs nothing else. */
  baseId: string;
  /** Total: every byte of memory is somewhere. */
  mapping: Mapping;
}

/** Where the parts of an encoded diff go. */
export interface EncodedDiffHeader {
  /** One block, for file offset 0. */
  header: Buffer;
  /** For file offset `tableOffset`. */
  table: Buffer;
}

const diffMagic = 'AVIARYMD';
const diffVersion = 1;
/** Memory sizes beyond this are refused before anything is allocated for them. */
const maxMemoryBytes = 2 ** 40;
/** A table longer than this (320 MiB) is refused: 64 GiB of memory with half of it in single pages. */
export const maxEntries = 2 ** 23;

const entryBytes = 40;
const at = {
  magic: 0,
  version: 8,
  blockSize: 12,
  memoryBytes: 16,
  generationNumber: 24,
  id: 32,
  baseId: 48,
  tableOffset: 64,
  entryCount: 72,
  crc: 76,
} as const;

function integrity(message: string, details: Record<string, unknown> = {}): AppError {
  return new AppError(
    'integrity',
    `cannot use memory diff: ${message}; resume an older generation or start from the disk`,
    {
      details,
    },
  );
}

function writeId(target: Buffer, id: string, offset: number): void {
  target.write(asId('generation', id).replaceAll('-', ''), offset, 16, 'hex');
}

function readId(source: Buffer, offset: number): string {
  const hex = source.toString('hex', offset, offset + 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function readNumber(source: Buffer, offset: number, what: string): number {
  const value = source.readBigUInt64LE(offset);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw integrity(`its ${what} is out of range`);
  return Number(value);
}

/** CRC-32 of the header, taken with its own field as zero, and the table. */
function checksum(header: Buffer, table: Buffer): number {
  const cleared = Buffer.from(header);
  cleared.writeUInt32LE(0, at.crc);
  return crc32(table, crc32(cleared));
}

/** Lays out a diff whose packed blocks end at `tableOffset`. Throws `payload_too_large` over {@link maxEntries}. */
export function encode(diff: DiffHeader, tableOffset: number): EncodedDiffHeader {
  const fault = totalMappingFault(diff.mapping, diff.memoryBytes);
  if (fault !== undefined) throw new Error(`invariant broken: a diff's mapping is total: ${fault}`);
  if (diff.mapping.length > maxEntries)
    throw new AppError('payload_too_large', `guest memory is in more than ${maxEntries} pieces: save a full image`);
  const table = Buffer.alloc(diff.mapping.length * entryBytes);
  for (const [index, entry] of diff.mapping.entries()) {
    const start = index * entryBytes;
    table.writeBigUInt64LE(BigInt(entry.offset), start);
    table.writeBigUInt64LE(BigInt(entry.length), start + 8);
    writeId(table, entry.generationId, start + 16);
    table.writeBigUInt64LE(BigInt(entry.storageOffset), start + 32);
  }
  const header = Buffer.alloc(blockSize);
  header.write(diffMagic, at.magic, 'latin1');
  header.writeUInt32LE(diffVersion, at.version);
  header.writeUInt32LE(blockSize, at.blockSize);
  header.writeBigUInt64LE(BigInt(diff.memoryBytes), at.memoryBytes);
  header.writeBigUInt64LE(BigInt(diff.generationNumber), at.generationNumber);
  writeId(header, diff.id, at.id);
  writeId(header, diff.baseId, at.baseId);
  header.writeBigUInt64LE(BigInt(tableOffset), at.tableOffset);
  header.writeUInt32LE(diff.mapping.length, at.entryCount);
  header.writeUInt32LE(checksum(header, table), at.crc);
  return { header, table };
}

/** What the first block says about where the table is. */
export interface TablePlace {
  offset: number;
  bytes: number;
}

/** Reads where the table is from the first block of a file of `fileBytes`. Nothing else of the header is believed yet. */
export function tablePlace(header: Buffer, fileBytes: number): TablePlace {
  if (header.length < blockSize) throw integrity('it is shorter than its header', { fileBytes });
  if (header.toString('latin1', at.magic, at.magic + diffMagic.length) !== diffMagic) throw integrity('bad magic');
  const version = header.readUInt32LE(at.version);
  if (version !== diffVersion) throw integrity(`version ${version} is not ${diffVersion}`, { version });
  const size = header.readUInt32LE(at.blockSize);
  if (size !== blockSize) throw integrity(`block size ${size} is not ${blockSize}`);
  const count = header.readUInt32LE(at.entryCount);
  if (count === 0 || count > maxEntries) throw integrity(`${count} entries are none or too many`);
  const offset = readNumber(header, at.tableOffset, 'table offset');
  const bytes = count * entryBytes;
  if (offset < blockSize || offset % blockSize !== 0 || offset + bytes !== fileBytes)
    throw integrity('its size does not match its header', { fileBytes, tableOffset: offset, tableBytes: bytes });
  return { offset, bytes };
}

/** Checks and reads a header and its table. Throws `integrity` naming what is wrong with them. */
export function decode(header: Buffer, table: Buffer, fileBytes: number): DiffHeader {
  const place = tablePlace(header, fileBytes);
  if (table.length !== place.bytes) throw integrity('its table is cut off');
  if (header.readUInt32LE(at.crc) !== checksum(header, table)) throw integrity('bad checksum of the header');
  const memoryBytes = readNumber(header, at.memoryBytes, 'memory size');
  if (memoryBytes > maxMemoryBytes) throw integrity(`memory of ${memoryBytes} bytes is too large`);
  const id = readId(header, at.id);
  const mapping: MappingEntry[] = [];
  for (let start = 0; start < table.length; start += entryBytes) {
    mapping.push({
      offset: readNumber(table, start, 'entry offset'),
      length: readNumber(table, start + 8, 'entry length'),
      generationId: readId(table, start + 16),
      storageOffset: readNumber(table, start + 32, 'storage offset'),
    });
  }
  const fault = totalMappingFault(mapping, memoryBytes);
  if (fault !== undefined) throw integrity(fault);
  const stray = mapping.find(
    (entry) =>
      entry.generationId === id &&
      (entry.storageOffset < blockSize || entry.storageOffset + entry.length > place.offset),
  );
  if (stray) throw integrity(`entry at ${stray.offset} points outside the packed blocks`);
  return {
    memoryBytes,
    generationNumber: readNumber(header, at.generationNumber, 'generation number'),
    id,
    baseId: readId(header, at.baseId),
    mapping,
  };
}
