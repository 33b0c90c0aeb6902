import { NetlinkSocket, netlinkFlag } from './netlink.ts';

const NETLINK_ROUTE = 0;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const ndmsgBytes = 12;
const NDA_DST = 1;
/** NUD_PERMANENT and NUD_NOARP: set by configuration, not learned. */
const configuredStates = 0x80 | 0x40;

/** Forgets every learned address of the neighbour tables (ARP and ND). Returns how many. Needs CAP_NET_ADMIN. */
export function flushNeighbours(): number {
  using netlink = new NetlinkSocket(NETLINK_ROUTE);
  let flushed = 0;
  const entries = netlink.request({ type: RTM_GETNEIGH, flags: netlinkFlag.dump, payload: Buffer.alloc(ndmsgBytes) });
  for (const { payload } of entries) {
    if ((payload.readUInt16LE(8) & configuredStates) !== 0) continue;
    const destination = findAttribute(payload, NDA_DST);
    if (!destination) continue;
    try {
      netlink.request({
        type: RTM_DELNEIGH,
        flags: netlinkFlag.ack,
        payload: Buffer.concat([payload.subarray(0, ndmsgBytes), destination]),
      });
      flushed++;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return flushed;
}

/** The attribute with its header, padded, or undefined. */
function findAttribute(payload: Buffer, wanted: number): Buffer | undefined {
  for (let at = ndmsgBytes; at + 4 <= payload.length; ) {
    const length = payload.readUInt16LE(at);
    if (length < 4) return undefined;
    if (payload.readUInt16LE(at + 2) === wanted) return payload.subarray(at, at + ((length + 3) & ~3));
    at += (length + 3) & ~3;
  }
  return undefined;
}
