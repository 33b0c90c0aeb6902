import { closeSync } from 'node:fs';
import { checkedCall, libcFunction, SystemCallError } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0x8_0000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const headerBytes = 16;
const receiveTimeoutMs = 1_000;

/** Flags of a netlink request, include/uapi/linux/netlink.h. */
export const netlinkFlag = { request: 0x1, ack: 0x4, dump: 0x300 } as const;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;

export interface NetlinkMessage {
  type: number;
  payload: Buffer;
}

/** One netlink(7) socket for short request-and-answer exchanges with the kernel. Close it. */
export class NetlinkSocket {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(65_536);
  #sequence = 0;

  constructor(protocol: number) {
    const socket = libcFunction('int socket(int, int, int)');
    const setsockopt = libcFunction('int setsockopt(int, int, int, void*, unsigned int)');
    this.#fd = checkedCall('socket', () => socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol), `netlink ${protocol}`);
    const timeval = Buffer.alloc(16);
    timeval.writeBigInt64LE(BigInt(receiveTimeoutMs / 1_000), 0);
    checkedCall('setsockopt', () => setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeval, timeval.length));
  }

  /** Sends one request and returns the kernel's answers up to its end marker or acknowledgement. Throws the kernel's error. */
  request({ type, flags, payload }: { type: number; flags: number; payload: Buffer }): NetlinkMessage[] {
    const sequence = ++this.#sequence;
    const message = Buffer.alloc(headerBytes + payload.length);
    message.writeUInt32LE(message.length, 0);
    message.writeUInt16LE(type, 4);
    message.writeUInt16LE(flags | netlinkFlag.request, 6);
    message.writeUInt32LE(sequence, 8);
    payload.copy(message, headerBytes);
    const send = libcFunction('long send(int, void*, size_t, int)');
    checkedCall('send', () => send(this.#fd, message, message.length, 0), `netlink message ${type}`);
    const answers: NetlinkMessage[] = [];
    for (;;) {
      if (this.#receive({ type, sequence, answers })) return answers;
    }
  }

  /** Reads one datagram into `answers`; true when it closes the exchange. */
  #receive({ type, sequence, answers }: { type: number; sequence: number; answers: NetlinkMessage[] }): boolean {
    const recv = libcFunction('long recv(int, void*, size_t, int)');
    const used = checkedCall(
      'recv',
      () => recv(this.#fd, this.#buffer, this.#buffer.length, 0),
      `netlink message ${type}`,
    );
    for (let at = 0; at + headerBytes <= used; ) {
      const length = this.#buffer.readUInt32LE(at);
      if (length < headerBytes || at + length > used) break;
      const answerType = this.#buffer.readUInt16LE(at + 4);
      const isOurs = this.#buffer.readUInt32LE(at + 8) === sequence;
      if (isOurs && answerType === NLMSG_DONE) return true;
      if (isOurs && answerType === NLMSG_ERROR) {
        const errno = -this.#buffer.readInt32LE(at + headerBytes);
        if (errno !== 0) throw new SystemCallError('netlink', errno, `message ${type}`);
        return true;
      }
      if (isOurs) {
        answers.push({ type: answerType, payload: Buffer.from(this.#buffer.subarray(at + headerBytes, at + length)) });
      }
      at += (length + 3) & ~3;
    }
    return false;
  }

  close(): void {
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
