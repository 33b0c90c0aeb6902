import { nilUuid } from '@aviary/core';

/** Guest memory is tracked, compared and stored in pages of this size. */
export const blockSize = 4096;

/**
 * Where a run of guest memory is kept: `length` bytes from guest address `offset` are at `storageOffset` of the memory file that
 * `generationId` names. The nil id means that they are zero, and are nowhere. All numbers are multiples of {@link blockSize}.
 */
export interface MappingEntry {
  offset: number;
  length: number;
  generationId: string;
  storageOffset: number;
}

/** Entries in order of `offset`, not overlapping, neighbours that continue one another merged. May have gaps. */
export type Mapping = readonly MappingEntry[];

/** A mapping of memory that is one full image: every byte at its own address. */
export function fullMapping(generationId: string, memoryBytes: number): Mapping {
  return [{ offset: 0, length: memoryBytes, generationId, storageOffset: 0 }];
}

/** A mapping of memory that was never written. */
export function zeroMapping(memoryBytes: number): Mapping {
  return fullMapping(nilUuid, memoryBytes);
}

function continues(previous: MappingEntry, next: MappingEntry): boolean {
  return (
    previous.offset + previous.length === next.offset &&
    previous.generationId === next.generationId &&
    (next.generationId === nilUuid || previous.storageOffset + previous.length === next.storageOffset)
  );
}

/** Adds `entry` behind the last one, as part of it where it continues it. */
function append(entries: MappingEntry[], entry: MappingEntry): void {
  if (entry.length === 0) return;
  const last = entries.at(-1);
  if (last && continues(last, entry)) last.length += entry.length;
  else entries.push({ ...entry, storageOffset: entry.generationId === nilUuid ? 0 : entry.storageOffset });
}

/** The one form of a set of entries: sorted, empty ones dropped, neighbours merged. The entries must not overlap. */
export function normalise(entries: readonly MappingEntry[]): Mapping {
  const result: MappingEntry[] = [];
  for (const entry of entries.toSorted((a, b) => a.offset - b.offset)) append(result, entry);
  return result;
}

/** The part of `entry` within [start, end). */
function clip(entry: MappingEntry, start: number, end: number): MappingEntry {
  const from = Math.max(entry.offset, start);
  const to = Math.min(entry.offset + entry.length, end);
  const isZero = entry.generationId === nilUuid;
  return {
    offset: from,
    length: Math.max(0, to - from),
    generationId: entry.generationId,
    storageOffset: isZero ? 0 : entry.storageOffset + from - entry.offset,
  };
}

/** `base` with `diff` on top: where `diff` has an entry it decides, zeros included; elsewhere `base` does. */
export function merge(base: Mapping, diff: Mapping): Mapping {
  const result: MappingEntry[] = [];
  let index = 0;
  /** Appends what `base` has within [start, end). Both mappings are in order, so each base entry is looked at once per gap. */
  const appendBase = (start: number, end: number) => {
    for (let entry = base[index]; entry && entry.offset < end; entry = base[++index]) {
      if (entry.offset + entry.length > start) append(result, clip(entry, start, end));
      if (entry.offset + entry.length > end) return; // its rest belongs to a later gap
    }
  };
  let position = 0;
  for (const entry of diff) {
    appendBase(position, entry.offset);
    append(result, entry);
    position = entry.offset + entry.length;
  }
  appendBase(position, Number.POSITIVE_INFINITY);
  return result;
}

/** The index of the first entry that ends after `offset`. */
function firstEndingAfter(mapping: Mapping, offset: number): number {
  let low = 0;
  let high = mapping.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = mapping[middle];
    if (entry && entry.offset + entry.length > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Where the byte at `offset` is, and how far the run goes from there; undefined in a gap. */
export function lookup(mapping: Mapping, offset: number): MappingEntry | undefined {
  const entry = mapping[firstEndingAfter(mapping, offset)];
  return entry && entry.offset <= offset ? clip(entry, offset, Number.POSITIVE_INFINITY) : undefined;
}

/** The entries of `mapping` within [offset, offset + length), cut to that range. */
export function split(mapping: Mapping, { offset, length }: { offset: number; length: number }): Mapping {
  const end = offset + length;
  const result: MappingEntry[] = [];
  for (let index = firstEndingAfter(mapping, offset); ; index++) {
    const entry = mapping[index];
    if (!entry || entry.offset >= end) return result;
    append(result, clip(entry, offset, end));
  }
}

/** The ids of the memory files that a mapping reads from, without the nil id, in order of first use. */
export function storagesOf(mapping: Mapping): string[] {
  const ids = new Set(mapping.map((entry) => entry.generationId));
  ids.delete(nilUuid);
  return [...ids];
}

/**
 * What is wrong with `entries` as a total mapping of `memoryBytes`, or undefined: aligned, in order, without gap or overlap, and
 * merged.
 */
export function totalMappingFault(entries: Mapping, memoryBytes: number): string | undefined {
  let position = 0;
  let previous: MappingEntry | undefined;
  for (const entry of entries) {
    const { offset, length, storageOffset, generationId } = entry;
    if (![offset, length, storageOffset].every((value) => Number.isSafeInteger(value) && value % blockSize === 0))
      return `entry at ${offset} is not aligned to ${blockSize}`;
    if (length <= 0) return `entry at ${offset} is empty`;
    if (offset !== position) return `memory from ${position} to ${offset} is covered twice or not at all`;
    if (generationId === nilUuid && storageOffset !== 0) return `zero entry at ${offset} has a storage offset`;
    if (previous && continues(previous, entry)) return `entries at ${previous.offset} and ${offset} are not merged`;
    position = offset + length;
    previous = entry;
  }
  return position === memoryBytes ? undefined : `memory ends at ${position}, not at ${memoryBytes}`;
}
