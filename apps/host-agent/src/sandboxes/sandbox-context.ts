import type { GenerationId } from '@aviary/core';
import type { ImageSet } from '@aviary/images';
import type { FaultPoints, Logger } from '@aviary/service-kit';
import type { DiskStore } from '../disk/disk-store.ts';
import type { GenerationStore } from '../generations/generation-store.ts';
import type { HostLayout } from '../layout.ts';
import type { SlotPool } from '../network/network-slot.ts';
import type { BootSnapshots } from '../templates/boot-snapshots.ts';
import type { TemplateStore } from '../templates/template-store.ts';
import type { Vmm, VmmIdentity } from '../vmm/vmm.ts';
import type { SandboxRegistry } from './sandbox-registry.ts';
import type { WarmPool } from './warm-pool.ts';

/** What the operations on sandboxes work with. One per host agent. */
export interface SandboxContext {
  registry: SandboxRegistry;
  vmm: Vmm;
  identity: VmmIdentity;
  disks: DiskStore;
  generations: GenerationStore;
  templates: TemplateStore;
  bootSnapshots: BootSnapshots;
  warmPool: WarmPool;
  slots: SlotPool;
  images: ImageSet;
  layout: HostLayout;
  faults: FaultPoints;
  logger: Logger;
  /** Removes saved files that nothing needs any more. */
  collectGarbage(): Promise<void>;
  /** Has a generation's memory put into one image in the background, so that its resume finds it made. */
  prepareResume(generationId: GenerationId | undefined): void;
}
