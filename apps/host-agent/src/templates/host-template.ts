import type { GenerationId } from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';

/** What a sandbox starts from: a disk image that boots, or a saved state with its sizes. */
export type HostTemplate =
  | { kind: 'image'; id: string; disk: DiskLayer }
  | { kind: 'snapshot'; generationId: GenerationId };

/** What a boot snapshot is made for: an image, and the machine's sizes, which are baked into it. */
export interface BootSize {
  template: Extract<HostTemplate, { kind: 'image' }>;
  vcpus: number;
  memoryMib: number;
  diskMib: number;
}
