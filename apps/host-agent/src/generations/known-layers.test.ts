import { expect, it } from 'vitest';
import { HostLayout } from '../layout.ts';
import type { GenerationStore } from './generation-store.ts';
import { requireKnownLayers } from './known-layers.ts';

const layout = new HostLayout('/data');
const [own, below, foreign] = [1, 2, 3].map((number) => `0190a000-0000-7000-8000-00000000000${number}`);
const part = (id: string | undefined) => `/data/host/generations/${id}/layer`;
const image = '/data/images/minimal.ext4';
const manifest = {
  disk: {
    part: 'layer',
    backing: [
      { kind: 'generation', generationId: below, part: 'layer' },
      { kind: 'image', path: image, id: 'minimal' },
    ],
  },
};
const generations = { get: (id: string) => (id === own ? manifest : undefined) } as unknown as GenerationStore;
const check = (files: readonly string[], id: string | undefined) =>
  requireKnownLayers(
    { generations, layout },
    files.map((path) => ({ path })),
    id,
  );

it.each([
  ['those of its generation', own, [part(own), part(below), image]],
  ['what an earlier run left on them', own, ['/data/host/sandboxes/s/disk/left', part(own), part(below), image]],
  ['an image', undefined, [image]],
])('takes %s', (_what, id, files) => {
  expect(() => check(files, id)).not.toThrow();
});

it.each([
  ["another's generation", own, [part(foreign), image]],
  ["another's generation above its own", own, [part(foreign), part(own), part(below), image]],
  ["another's generation under its own", own, [part(own), part(foreign), image]],
  ['fewer', own, [part(own)]],
  ["another's generation on an image", undefined, [part(foreign), image]],
  ['a generation that is not there', below, [part(below), image]],
])('refuses %s', (_what, id, files) => {
  expect(() => check(files, id)).toThrow(expect.objectContaining({ code: 'integrity' }));
});
