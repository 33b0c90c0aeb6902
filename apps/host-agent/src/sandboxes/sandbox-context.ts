import type { FaultPoints, Logger } from '@aviary/service-kit';
import type { ImageSet } from '@aviary/images';
import type { DiskStore } from '../disk/disk-store.ts';
import type { HostLayout } from '../layout.ts';
import type { SlotPool } from '../network/network-slot.ts';
import type { Vmm, VmmIdentity } from '../vmm/vmm.ts';
import type { SandboxRegistry } from './sandbox-registry.ts';

/** What the operations on sandboxes work with. One per host agent. */
export interface SandboxContext {
  registry: SandboxRegistry;
  vmm: Vmm;
  identity: VmmIdentity;
  disks: DiskStore;
  slots: SlotPool;
  images: ImageSet;
  layout: HostLayout;
  faults: FaultPoints;
  logger: Logger;
}
