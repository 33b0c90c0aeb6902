import type { GenerationId } from '@aviary/core';
import type { ImageSet } from '@aviary/images';
import type { FaultPoints, Logger } from '@aviary/service-kit';
import type { DiskStore } from '../disk/disk-store.ts';
import type { GenerationStore } from '../generations/generation-store.ts';
import type { Keeper } from '../generations/needed-parts.ts';
import type { HostLayout } from '../layout.ts';
import type { SlotPool } from '../network/network-slot.ts';
import type { BootSize } from '../templates/host-template.ts';
import type { TemplateStore } from '../templates/template-store.ts';
import type { Vmm, VmmIdentity } from '../vmm/vmm.ts';
import type { RunningParts, Sandbox, SandboxRegistry } from './sandbox-registry.ts';

export type WarmSandbox = Sandbox & { running: RunningParts };

/** MicroVMs that stand ready; see `warm-pool.ts`. */
export interface WarmMicroVms {
  want(generationId: GenerationId): void;
  take(context: SandboxContext, generationId: GenerationId): Promise<WarmSandbox | undefined>;
  duringStart<T>(work: () => Promise<T>): Promise<T>;
  fillOnce(context: SandboxContext): Promise<void>;
  drain(context: SandboxContext): Promise<void>;
}

/** Saved states of freshly booted guests; see `templates/boot-snapshots.ts`. */
export interface BootSnapshotBook {
  find(context: SandboxContext, size: BootSize): GenerationId | undefined;
  ensure(context: SandboxContext, size: BootSize): Promise<{ generationId: GenerationId; isNew: boolean }>;
  drop(context: SandboxContext, generationId: GenerationId): Promise<void>;
  keepers(): Keeper[];
}

/** What the operations on sandboxes work with. One per host agent. */
export interface SandboxContext {
  registry: SandboxRegistry;
  vmm: Vmm;
  identity: VmmIdentity;
  disks: DiskStore;
  generations: GenerationStore;
  templates: TemplateStore;
  bootSnapshots: BootSnapshotBook;
  warmPool: WarmMicroVms;
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
