// What tests and benchmarks of the whole product use of the agent's insides.
export { execBuffered } from '../guest/exec.ts';
export { GuestClient } from '../guest/guest-client.ts';
export { sha256Hex } from '../guest/proven-agent.ts';
export type { NetworkSlot } from '../network/network-slot.ts';
export type { PrebuiltSlotPool } from '../network/prebuilt-slot-pool.ts';
export { createSlotPool } from '../network/slot-pool.ts';
export { findMappings } from '../vmm/process/dirty-pages.ts';
export { linkImages, testImages } from './test-images.ts';
