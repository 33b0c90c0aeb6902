import type { ImageSet } from '@aviary/images';
import type { FaultPoints, Logger } from '@aviary/service-kit';
import type { DiskStore } from '../disk/disk-store.ts';
import type { GenerationStore } from '../generations/generation-store.ts';
import type { GuestClient, GuestTokens } from '../guest/guest-client.ts';
import type { HostLayout } from '../layout.ts';
import type { SlotPool } from '../network/network-slot.ts';
import type { SandboxRegistry } from '../registry/sandbox-registry.ts';
import type { Vmm, VmmIdentity } from '../vmm/vmm.ts';

/** What starting a microVM, and releasing it, takes from the host. Each function picks its part. */
export interface StartDeps {
  registry: SandboxRegistry;
  vmm: Vmm;
  identity: VmmIdentity;
  disks: DiskStore;
  generations: GenerationStore;
  slots: SlotPool;
  images: ImageSet;
  layout: HostLayout;
  faults: FaultPoints;
  logger: Logger;
  /** A client of the agent in the guest at `address`. */
  connectGuest(address: string, tokens: GuestTokens): GuestClient;
}
