import { NetlinkSocket, netlinkFlag } from './netlink.ts';

// include/uapi/linux/sock_diag.h and inet_diag.h
const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const IPPROTO_TCP = 6;
const AF_INET = 2;
const AF_INET6 = 10;
const requestBytes = 56;
const socketIdBytes = 48;
const socketIdOffsetInRequest = 8;
const socketIdOffsetInAnswer = 4;
/** Every state but LISTEN (10) and TIME_WAIT (6): a listener has no peer that can be stale. */
const connectedStates = 0xfff & ~(1 << 10) & ~(1 << 6);

export interface TcpConnection {
  localAddress: string;
  localPort: number;
  remoteAddress: string;
  remotePort: number;
}

/**
 * Aborts every TCP connection of this network namespace that `isStale` names: its owner reads ECONNRESET at once, where
 * it would wait for a peer that is gone. Returns how many. Needs CAP_NET_ADMIN and a kernel with INET_DIAG_DESTROY:
 * throws `EOPNOTSUPP` or `ENOENT` without.
 */
export function abortTcpConnections(isStale: (connection: TcpConnection) => boolean): number {
  using netlink = new NetlinkSocket(NETLINK_SOCK_DIAG);
  let aborted = 0;
  for (const family of [AF_INET, AF_INET6]) {
    const dump = Buffer.alloc(requestBytes);
    dump.writeUInt8(family, 0);
    dump.writeUInt8(IPPROTO_TCP, 1);
    dump.writeUInt32LE(connectedStates, 4);
    for (const { payload } of netlink.request({ type: SOCK_DIAG_BY_FAMILY, flags: netlinkFlag.dump, payload: dump })) {
      const socketId = payload.subarray(socketIdOffsetInAnswer, socketIdOffsetInAnswer + socketIdBytes);
      if (!isStale(parseConnection(family, socketId))) continue;
      const destroy = Buffer.from(dump);
      socketId.copy(destroy, socketIdOffsetInRequest);
      try {
        netlink.request({ type: SOCK_DESTROY, flags: netlinkFlag.ack, payload: destroy });
        aborted++;
      } catch (error) {
        // It ended by itself between the two calls.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
  }
  return aborted;
}

function parseConnection(family: number, socketId: Buffer): TcpConnection {
  return {
    localPort: socketId.readUInt16BE(0),
    remotePort: socketId.readUInt16BE(2),
    localAddress: formatAddress(family, socketId.subarray(4, 20)),
    remoteAddress: formatAddress(family, socketId.subarray(20, 36)),
  };
}

/** Dotted IPv4 (mapped IPv6 addresses too), or IPv6 as eight groups without compression. */
function formatAddress(family: number, bytes: Buffer): string {
  if (family === AF_INET) return [...bytes.subarray(0, 4)].join('.');
  const isMapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes.readUInt16BE(10) === 0xffff;
  if (isMapped) return [...bytes.subarray(12, 16)].join('.');
  return Array.from({ length: 8 }, (_, group) => bytes.readUInt16BE(group * 2).toString(16)).join(':');
}
