import { describe, expect, it } from 'vitest';
import { formatManifest, type GenerationManifest, parseGenerationManifest, parseMergedManifest } from './manifest.ts';

const id = '0190c2d4-0000-7000-8000-000000000001';
const base = '0190c2d4-0000-7000-8000-000000000002';
const part = { bytes: 10, sha256: 'a'.repeat(64) };

const manifest: GenerationManifest = {
  id,
  parent: base,
  sandboxId: id,
  number: 3,
  cause: 'auto_pause',
  createdAt: '2026-01-02T03:04:05.678Z',
  vcpus: 2,
  memoryMib: 512,
  diskMib: 5120,
  parts: { 'state.bin': part, 'memory.diff': part, 'disk.layer': part },
  memory: { kind: 'diff', part: 'memory.diff', needs: [{ generationId: base, storageId: base }] },
  disk: {
    part: 'disk.layer',
    format: 'qcow2',
    backing: [
      { kind: 'generation', generationId: base, part: 'disk.layer' },
      { kind: 'image', path: '/images/minimal/rootfs.ext4', id: 'sha256:1' },
    ],
  },
  vmm: { vmm: 'qemu', version: '7.2', machineType: 'microvm', cpuModel: 'max', accelerator: 'tcg' },
  kernelId: 'k',
  initramfsId: 'i',
  toolboxId: 't',
  guestAgentToken: 'secret',
  network: { guestMac: '02:00:00:00:00:01' },
};

const text = formatManifest('generation', manifest);

describe('manifest', () => {
  it('reads back what it wrote', () => {
    expect(parseGenerationManifest(text)).toEqual(manifest);
    const { parent: _parent, vmm: _vmm, ...rest } = manifest;
    const diskOnly: GenerationManifest = { ...rest, memory: { kind: 'none' } };
    expect(parseGenerationManifest(formatManifest('generation', diskOnly))).toEqual(diskOnly);
  });

  it('refuses every flipped bit that changes its meaning', () => {
    const bytes = Buffer.from(text);
    for (let position = 0; position < bytes.length - 1; position++) {
      const flipped = Buffer.from(bytes);
      flipped.writeUInt8(flipped.readUInt8(position) ^ 1, position);
      expect(() => parseGenerationManifest(flipped.toString()), `byte ${position}`).toThrow(
        expect.objectContaining({ code: 'integrity' }),
      );
    }
  });

  it('refuses text that is cut off, another kind of manifest, and a newer version', () => {
    for (const length of [0, 1, 100, text.length - 2])
      expect(() => parseGenerationManifest(text.slice(0, length))).toThrow(/JSON/);
    expect(() => parseMergedManifest(text)).toThrow(/format/);
    expect(() => parseGenerationManifest(text.replace('"version":1', '"version":2'))).toThrow(/version 2/);
  });

  const broken: [string, Record<string, unknown>, RegExp][] = [
    ['an id that is a path', { id: '../../etc' }, /manifest\.id/],
    ['no sandbox', { sandboxId: undefined }, /sandboxId/],
    ['a part name that is a path', { parts: { ...manifest.parts, '../x': part } }, /parts/],
    ['a part without a hash', { parts: { ...manifest.parts, 'state.bin': { bytes: 1 } } }, /state\.bin\.sha256/],
    ['negative sizes', { memoryMib: -1 }, /memoryMib/],
    ['an unknown cause', { cause: 'whim' }, /cause is not one of/],
    ['memory in an unlisted part', { memory: { kind: 'full', part: 'memory.img' } }, /memory\.img/],
    ['memory without device state', { vmm: undefined }, /no device state/],
    [
      'a backing layer of another kind',
      { disk: { ...manifest.disk, backing: [{ kind: 'url' }] } },
      /backing\[0\]\.kind/,
    ],
  ];
  it.each(broken)('refuses %s although its checksum is right', (_what, change, message) => {
    const bad = formatManifest('generation', { ...manifest, ...change } as GenerationManifest);
    expect(() => parseGenerationManifest(bad)).toThrow(
      expect.objectContaining({ code: 'integrity', message: expect.stringMatching(message) }),
    );
  });
});
