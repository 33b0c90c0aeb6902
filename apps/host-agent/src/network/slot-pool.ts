import { type Clock, type Logger, runProgram, systemClock } from '@aviary/service-kit';
import { openTunDevice, prepareHost, removePrefix } from './host-network.ts';
import { PrebuiltSlotPool, type SlotPoolOptions } from './prebuilt-slot-pool.ts';
import { KernelSlots, type KernelSlotsOptions } from './slot.ts';

export interface CreateSlotPoolDeps {
  logger: Logger;
  /** Starts `ip`, `nft` and the like. */
  run?: typeof runProgram;
  clock?: Clock;
}

export interface CreateSlotPoolOptions extends SlotPoolOptions, KernelSlotsOptions {
  /** What VMMs open their taps through. Default `/dev/net/tun`. */
  tunDevice?: string;
  /** The prefix that this agent had before: what is left of it is removed. */
  previousPrefix?: string;
  /** Other agents' prefixes and marks, of which nobody is left: what the kernel has of them is removed as well. */
  abandoned?: readonly { prefix: string; owner: string }[];
}

/** A pool of slots in this machine's kernel. Needs root, `ip`, `nft` and `nsenter`. Call `reclaim` on it first. */
export function createSlotPool(
  { logger, run = runProgram, clock = systemClock }: CreateSlotPoolDeps,
  options: CreateSlotPoolOptions = {},
): PrebuiltSlotPool {
  const { tunDevice = '/dev/net/tun', previousPrefix, abandoned = [] } = options;
  const builder = new KernelSlots({ run }, options);
  const prepare = async () => {
    await openTunDevice(tunDevice);
    const left = [...(previousPrefix === undefined ? [] : [{ prefix: previousPrefix }]), ...abandoned];
    for (const each of left) await removePrefix(new KernelSlots({ run }, { ...options, ...each }), logger);
    await prepareHost(builder, logger);
  };
  return new PrebuiltSlotPool({ builder, prepareHost: prepare, clock, logger }, options);
}
