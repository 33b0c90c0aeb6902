import { AppError } from '@aviary/core';
import type { NetworkSlot } from './network-slot.ts';

/** Two /16 of addresses, /31 pairs in the second: this many slots fit. */
export const maxSlotIndex = 32_767;
/** Every guest's own address: a snapshot restores in any slot without its network being set up again. */
export const guestAddress = '169.254.0.21';
/** The tap's address: the guest's gateway. */
export const gatewayAddress = '169.254.0.22';
/** Locally administered, the last four bytes are the address. Fixed, so that a restored guest's neighbour entry stays true. */
export const guestMac = '02:00:a9:fe:00:15';
export const tapMac = '02:00:a9:fe:00:16';
export const tapName = 'tap0';
/** The namespace's end of the veth pair. */
export const uplinkName = 'eth0';
/** Where hosts reach guests, and what the veth pairs use. */
export const guestNetwork = '10.11.0.0/16';
export const linkNetwork = '10.12.0.0/16';

export interface SlotAddressOptions {
  /** Starts the names of namespaces and links. 1–8 of a–z and 0–9, a letter first. Default `avy`. */
  prefix?: string;
  /** Uid of slot n is `uidBase + n`. Default 200 000. */
  uidBase?: number;
}

/** All names and addresses of one slot. */
export interface SlotAddress extends NetworkSlot {
  /** The host's end of the veth pair; at most 15 bytes, as the kernel wants. Same as the namespace's name. */
  vethName: string;
  /** The host's end, 10.12.x.y, even. The only source that the slot lets in. */
  vethHostAddress: string;
  /** The namespace's end, odd: what the guest's traffic comes from as the host sees it. */
  vethSlotAddress: string;
}

const prefixPattern = /^[a-z][a-z0-9]{0,7}$/;

/** The names and addresses of slot `index` (1 … 32767). Pure. Throws `invalid_request` outside of that. */
export function slotAddress(index: number, options: SlotAddressOptions = {}): SlotAddress {
  const { prefix = 'avy', uidBase = 200_000 } = options;
  if (!Number.isInteger(index) || index < 1 || index > maxSlotIndex)
    throw new AppError('invalid_request', `no network slot ${index}: the index must be 1 to ${maxSlotIndex}`);
  const name = `${slotNamePrefix(prefix)}${index}`;
  return {
    index,
    namespace: name,
    vethName: name,
    tapName,
    guestMac,
    uid: uidBase + index,
    hostAddress: `10.11.${index >> 8}.${index & 255}`,
    vethHostAddress: linkAddress(2 * index),
    vethSlotAddress: linkAddress(2 * index + 1),
  };
}

/** What the names of all slots of `prefix` start with. Throws `invalid_request` for a prefix that makes names too long. */
export function slotNamePrefix(prefix: string): string {
  if (!prefixPattern.test(prefix))
    throw new AppError('invalid_request', `slot name prefix '${prefix}' must match ${prefixPattern.source}`);
  return `${prefix}-`;
}

/** The index of the slot that a namespace or link belongs to; undefined for a name that is not one of ours. */
export function slotIndexOf(name: string, prefix = 'avy'): number | undefined {
  const start = slotNamePrefix(prefix);
  if (!name.startsWith(start)) return undefined;
  const digits = name.slice(start.length);
  const index = Number(digits);
  return /^[1-9]\d{0,4}$/.test(digits) && index <= maxSlotIndex ? index : undefined;
}

function linkAddress(offset: number): string {
  return `10.12.${offset >> 8}.${offset & 255}`;
}
