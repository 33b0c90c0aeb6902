import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { checkedCall, libcFunction } from './libc.ts';

// The same number on x86-64 and arm64: both come from the shared table since Linux 5.1.
const sysPidfdSendSignal = 424;
const sysPidfdOpen = 434;
const sysPidfdGetfd = 438;

/** A process held by descriptor: a signal reaches that process or nobody, however pids are reused. Close it. */
export class PidFd {
  readonly pid: number;
  readonly fd: number;
  #isOpen = true;

  private constructor(pid: number, fd: number) {
    this.pid = pid;
    this.fd = fd;
  }

  /** Throws `ESRCH` when there is no such process. */
  static open(pid: number): PidFd {
    const syscall = libcFunction('long syscall(long, int, unsigned int)');
    return new PidFd(
      pid,
      checkedCall('pidfd_open', () => syscall(sysPidfdOpen, pid, 0), String(pid)),
    );
  }

  /** Returns false when the process has ended and was reaped. */
  signal(signal: NodeJS.Signals | 0): boolean {
    if (!this.#isOpen) return false;
    const number = signal === 0 ? 0 : constants.signals[signal];
    const syscall = libcFunction('long syscall(long, int, int, void*, unsigned int)');
    try {
      checkedCall('pidfd_send_signal', () => syscall(sysPidfdSendSignal, this.fd, number, null, 0), String(this.pid));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
      throw error;
    }
  }

  /** A copy of descriptor `fd` of that process. Needs the right to trace it. */
  copyDescriptor(fd: number): number {
    const syscall = libcFunction('long syscall(long, int, int, unsigned int)');
    return checkedCall('pidfd_getfd', () => syscall(sysPidfdGetfd, this.fd, fd, 0), `${this.pid}:${fd}`);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
