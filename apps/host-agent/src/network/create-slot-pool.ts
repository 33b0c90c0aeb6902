import type { Clock, Logger, runProgram } from '@aviary/service-kit';
import { openTunDevice, prepareHost } from './host-network.ts';
import { KernelSlots, type KernelSlotsOptions } from './slot.ts';
import { PrebuiltSlotPool, type SlotPoolOptions } from './slot-pool.ts';

export interface CreateSlotPoolDeps {
  run: typeof runProgram;
  clock: Clock;
  logger: Logger;
}

export interface CreateSlotPoolOptions extends SlotPoolOptions, KernelSlotsOptions {
  /** What VMMs open their taps through. Default `/dev/net/tun`. */
  tunDevice?: string;
}

/** A pool of slots in this machine's kernel. Needs root, `ip`, `nft` and `nsenter`. Call `reclaim` on it first. */
export function createSlotPool(
  { run, clock, logger }: CreateSlotPoolDeps,
  options: CreateSlotPoolOptions = {},
): PrebuiltSlotPool {
  const { tunDevice = '/dev/net/tun' } = options;
  const builder = new KernelSlots({ run }, options);
  const prepare = async () => {
    await openTunDevice(tunDevice);
    await prepareHost(builder, logger);
  };
  return new PrebuiltSlotPool({ builder, prepareHost: prepare, clock, logger }, options);
}
