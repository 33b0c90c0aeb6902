import { createHash } from 'node:crypto';
import { AppError, type GenerationCause, generationCauses, isSafeName } from '@aviary/core';
import { type DiskFormat, diskFormats } from '../disk/disk-store.ts';
import type { VmmIdentity } from '../vmm/vmm.ts';
import { JsonFields } from './json-fields.ts';

/** A file of a generation. `sha256` as `hashFile` computes it. */
export interface PartFacts {
  bytes: number;
  sha256: string;
}

/**
 * One memory file: a generation's own (`storageId` is the generation's id), or a merged form of it (an id of its own). Entries of a
 * memory mapping name memory files by `storageId`.
 */
export interface StorageRef {
  generationId: string;
  storageId: string;
}

/** How memory is kept. `needs`: every other memory file that the diff's mapping reads from. */
export type MemoryFacts =
  | { kind: 'none' }
  | { kind: 'full'; part: string }
  | { kind: 'diff'; part: string; needs: StorageRef[] };

/** A layer under a generation's own: another generation's, or an image that the platform or a team keeps. */
export type BackingLayer =
  | { kind: 'generation'; generationId: string; part: string }
  | { kind: 'image'; path: string; id: string };

export interface DiskFacts {
  part: string;
  format: DiskFormat;
  /** Nearest first. */
  backing: BackingLayer[];
}

/** Everything that a restore needs to know, as `manifest.json` holds it. Never changed once written. */
export interface GenerationManifest {
  id: string;
  /** The generation that the sandbox was running from; undefined for its first. */
  parent?: string;
  sandboxId: string;
  /** Counts a sandbox's generations; the highest is the newest. */
  number: number;
  cause: GenerationCause;
  /** ISO 8601, UTC. */
  createdAt: string;
  vcpus: number;
  memoryMib: number;
  diskMib: number;
  parts: Record<string, PartFacts>;
  memory: MemoryFacts;
  disk: DiskFacts;
  /** What saved the device state; undefined when there is none. */
  vmm?: VmmIdentity;
  kernelId: string;
  initramfsId: string;
  toolboxId: string;
  /** Secret: lets the host into the restored guest until it is rotated. */
  guestAgentToken: string;
  /** Facts baked into the saved guest: its MAC and addresses. */
  network: Record<string, string>;
}

/** The manifest of a merged form: `host/merged/{generation}.{storage}/manifest.json`. */
export interface MergedManifest extends StorageRef {
  createdAt: string;
  parts: Record<string, PartFacts>;
  memory: Exclude<MemoryFacts, { kind: 'none' }>;
}

export const manifestFile = 'manifest.json';
export const statePart = 'state.bin';
export const fullMemoryPart = 'memory.img';
export const diffMemoryPart = 'memory.diff';
/** A manifest longer than this is not read. */
export const maxManifestBytes = 1024 * 1024;

const formatVersion = 1;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const sha256 = /^[0-9a-f]{64}$/;
const maxParts = 16;
const maxLayers = 4096;

/**
 * The text of a manifest file: the manifest and a SHA-256 of it, so that the manifest's own bits are covered as the parts' are by
 * their hashes in it.
 */
export function formatManifest(kind: 'generation' | 'merged', manifest: GenerationManifest | MergedManifest): string {
  const body = JSON.stringify(manifest);
  return `${JSON.stringify({ format: `aviary-${kind}`, version: formatVersion, sha256: digest(body), manifest })}\n`;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Opens the envelope. Throws `integrity` naming what is wrong. */
function openEnvelope(text: string, kind: 'generation' | 'merged'): JsonFields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError('integrity', `${manifestFile} is not JSON`, { cause });
  }
  const envelope = new JsonFields(value, manifestFile);
  envelope.string('format', new RegExp(`^aviary-${kind}$`));
  const version = envelope.integer('version');
  if (version !== formatVersion)
    throw new AppError('integrity', `${manifestFile} has version ${version}; this release reads ${formatVersion}`, {
      details: { version },
    });
  const expected = envelope.string('sha256', sha256);
  const manifest = envelope.object('manifest');
  // A parsed and re-formatted object gives the same text: JSON keeps the order of keys, and none of ours are numbers.
  if (digest(JSON.stringify((value as { manifest?: unknown }).manifest)) !== expected)
    throw new AppError('integrity', `${manifestFile} does not match its checksum`);
  return manifest;
}

function readPart(value: unknown, what: string): PartFacts {
  const fields = new JsonFields(value, what);
  return { bytes: fields.integer('bytes'), sha256: fields.string('sha256', sha256) };
}

function readParts(fields: JsonFields): Record<string, PartFacts> {
  const parts = fields.record('parts', readPart);
  const names = Object.keys(parts);
  if (names.length > maxParts || !names.every(isSafeName))
    throw new AppError('integrity', `${manifestFile}.parts has too many names, or one that is not a file name`);
  return parts;
}

function readStorageRef(value: unknown, what: string): StorageRef {
  const fields = new JsonFields(value, what);
  return { generationId: fields.string('generationId', uuid), storageId: fields.string('storageId', uuid) };
}

function readPartName(fields: JsonFields, parts: Record<string, PartFacts>): string {
  const part = fields.string('part');
  if (!Object.hasOwn(parts, part))
    throw new AppError('integrity', `${manifestFile} refers to part ${part}, which it does not list`);
  return part;
}

function readMemory(fields: JsonFields, parts: Record<string, PartFacts>): MemoryFacts {
  const kind = fields.oneOf('kind', ['none', 'full', 'diff']);
  switch (kind) {
    case 'none':
      return { kind };
    case 'full':
      return { kind, part: readPartName(fields, parts) };
    case 'diff':
      return { kind, part: readPartName(fields, parts), needs: fields.list('needs', maxLayers, readStorageRef) };
  }
}

function readBackingLayer(value: unknown, what: string): BackingLayer {
  const fields = new JsonFields(value, what);
  const kind = fields.oneOf('kind', ['generation', 'image']);
  return kind === 'generation'
    ? {
        kind,
        generationId: fields.string('generationId', uuid),
        part: fields.string('part', /^[a-zA-Z0-9][\w.-]{0,63}$/),
      }
    : { kind, path: fields.string('path', /^\//), id: fields.string('id') };
}

function readVmm(fields: JsonFields): VmmIdentity {
  return {
    vmm: fields.oneOf('vmm', ['qemu', 'firecracker', 'fake']),
    version: fields.string('version'),
    machineType: fields.string('machineType'),
    cpuModel: fields.string('cpuModel'),
    accelerator: fields.oneOf('accelerator', ['kvm', 'tcg', 'none']),
  };
}

function readText(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new AppError('integrity', `${what} is not a string`);
  return value;
}

/** Reads a generation's manifest. Throws `integrity` naming the field. */
export function parseGenerationManifest(text: string): GenerationManifest {
  const fields = openEnvelope(text, 'generation');
  const parts = readParts(fields);
  const memory = readMemory(fields.object('memory'), parts);
  const vmm = fields.optional('vmm', () => readVmm(fields.object('vmm')));
  if (memory.kind !== 'none' && (!vmm || !Object.hasOwn(parts, statePart)))
    throw new AppError('integrity', `${manifestFile} has memory but no device state`);
  const disk = fields.object('disk');
  const parent = fields.optional('parent', () => fields.string('parent', uuid));
  return {
    id: fields.string('id', uuid),
    ...(parent === undefined ? {} : { parent }),
    sandboxId: fields.string('sandboxId', uuid),
    number: fields.integer('number', 1),
    cause: fields.oneOf('cause', generationCauses),
    createdAt: fields.string('createdAt', /^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    vcpus: fields.integer('vcpus', 1),
    memoryMib: fields.integer('memoryMib', 1),
    diskMib: fields.integer('diskMib', 1),
    parts,
    memory,
    disk: {
      part: readPartName(disk, parts),
      format: disk.oneOf('format', diskFormats),
      backing: disk.list('backing', maxLayers, readBackingLayer),
    },
    ...(vmm ? { vmm } : {}),
    kernelId: fields.string('kernelId'),
    initramfsId: fields.string('initramfsId'),
    toolboxId: fields.string('toolboxId'),
    guestAgentToken: fields.string('guestAgentToken'),
    network: fields.record('network', readText),
  };
}

/** Reads a merged form's manifest. Throws `integrity` naming the field. */
export function parseMergedManifest(text: string): MergedManifest {
  const fields = openEnvelope(text, 'merged');
  const parts = readParts(fields);
  const memory = readMemory(fields.object('memory'), parts);
  if (memory.kind === 'none') throw new AppError('integrity', `${manifestFile} of a merged form has no memory`);
  return {
    generationId: fields.string('generationId', uuid),
    storageId: fields.string('storageId', uuid),
    createdAt: fields.string('createdAt'),
    parts,
    memory,
  };
}

/** What a host offers a restore; must equal what the generation was saved with. */
export type RestoreFacts = VmmIdentity & Pick<GenerationManifest, 'kernelId' | 'initramfsId' | 'toolboxId'>;

/** What a manifest says about where its memory was saved. */
export type SavedOn = Pick<GenerationManifest, 'memory' | 'vmm' | 'kernelId' | 'initramfsId' | 'toolboxId'>;

/**
 * Why a generation's memory cannot be restored on a host with `facts`: one text per difference, empty when it can. A guest whose
 * VMM, CPU or kernel changed under it would crash or, worse, compute wrongly; such a host starts from the disk instead.
 */
export function restoreMismatches(manifest: SavedOn, facts: RestoreFacts): string[] {
  if (manifest.memory.kind === 'none' || !manifest.vmm) return ['the generation has no saved memory'];
  const { kernelId, initramfsId, toolboxId } = manifest;
  const saved: RestoreFacts = { ...manifest.vmm, kernelId, initramfsId, toolboxId };
  return (Object.keys(saved) as (keyof RestoreFacts)[])
    .filter((name) => saved[name] !== facts[name])
    .map((name) => `${name} was ${saved[name]}, is ${facts[name]}`);
}
