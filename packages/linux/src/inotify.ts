import { closeSync, readSync } from 'node:fs';
import { checkedCall, libcFunction } from './libc.ts';

/** include/uapi/linux/inotify.h */
export const inotifyMask = {
  modify: 0x2,
  attributes: 0x4,
  movedFrom: 0x40,
  movedTo: 0x80,
  create: 0x100,
  remove: 0x200,
  removeSelf: 0x400,
  moveSelf: 0x800,
  unmount: 0x2000,
  queueOverflow: 0x4000,
  ignored: 0x8000,
  onlyDirectory: 0x0100_0000,
  isDirectory: 0x4000_0000,
} as const;

export interface InotifyEvent {
  /** The watch it belongs to; -1 for a queue overflow. */
  watch: number;
  mask: number;
  /** Pairs the two halves of a rename. */
  cookie: number;
  /** Name inside the watched directory; empty for the directory itself. */
  name: string;
}

const headerBytes = 16;
const IN_NONBLOCK = 0x800;
const IN_CLOEXEC = 0x8_0000;

/** An inotify(7) queue that is read without waiting. Close it. */
export class Inotify {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(65_536);
  #isOpen = true;

  constructor() {
    const init = libcFunction('int inotify_init1(int)');
    this.#fd = checkedCall('inotify_init1', () => init(IN_NONBLOCK | IN_CLOEXEC));
  }

  /** Watches `path` for `mask`; returns the watch's number, the same one for the same directory. */
  add(path: string, mask: number): number {
    const add = libcFunction('int inotify_add_watch(int, const char*, unsigned int)');
    return checkedCall('inotify_add_watch', () => add(this.#fd, path, mask), path);
  }

  /** Ends a watch; one that the kernel has ended already is fine. */
  remove(watch: number): void {
    const remove = libcFunction('int inotify_rm_watch(int, int)');
    remove(this.#fd, watch);
  }

  /** The events queued so far; empty when there is none. */
  read(): InotifyEvent[] {
    const events: InotifyEvent[] = [];
    while (this.#isOpen) {
      let used: number;
      try {
        used = readSync(this.#fd, this.#buffer);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') break;
        throw error;
      }
      for (let at = 0; at + headerBytes <= used; ) {
        const nameBytes = this.#buffer.readUInt32LE(at + 12);
        const name = this.#buffer.toString('utf8', at + headerBytes, at + headerBytes + nameBytes);
        const end = name.indexOf('\0');
        events.push({
          watch: this.#buffer.readInt32LE(at),
          mask: this.#buffer.readUInt32LE(at + 4),
          cookie: this.#buffer.readUInt32LE(at + 8),
          name: end === -1 ? name : name.slice(0, end),
        });
        at += headerBytes + nameBytes;
      }
    }
    return events;
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
