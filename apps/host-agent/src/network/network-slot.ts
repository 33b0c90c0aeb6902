/** One ready place for a microVM on the host's network: a namespace with a tap in it and the way to the host and internet. */
export interface NetworkSlot {
  /** 1 … maxSlots. Everything else follows from it. */
  index: number;
  namespace: string;
  tapName: string;
  /** The guest's address as the host reaches it, 10.11.x.y. Inside, every guest is 169.254.0.21. */
  hostAddress: string;
  guestMac: string;
  /** The unprivileged identity that may open the tap. One per slot. */
  uid: number;
}

/** Hands out slots that were built before they were asked for. */
export interface SlotPool extends AsyncDisposable {
  /** A slot nobody else has: at once while the pool has one, else when one is built. Throws `no_capacity` when all are in use. */
  acquire(signal?: AbortSignal): Promise<NetworkSlot>;
  /** Takes a slot that a running microVM already uses, after a restart of the agent. */
  adopt(index: number): Promise<NetworkSlot>;
  /** Takes the slot apart and builds it anew before anybody gets it again. Its VMM must have ended. */
  release(slot: NetworkSlot): Promise<void>;
  /** Removes what an earlier agent left in the kernel, except the slots in `keep`. Call once, before the first acquire. */
  reclaim(keep: ReadonlySet<number>): Promise<void>;
  /** Slots built and free. */
  readonly ready: number;
}
