import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { callOnOtherThread, checkedCall, koffi, libcFunction, SystemCallError } from './libc.ts';

interface Machine {
  /** AUDIT_ARCH_… of `<linux/audit.h>`. */
  audit: number;
  seccomp: number;
  execve: number;
  openat: number;
  /** Undefined where there is only openat. */
  open: number | undefined;
}

const machines: Partial<Record<NodeJS.Architecture, Machine>> = {
  x64: { audit: 0xc000003e, seccomp: 317, execve: 59, openat: 257, open: 2 },
  arm64: { audit: 0xc00000b7, seccomp: 277, execve: 221, openat: 56, open: undefined },
};

// <linux/seccomp.h>
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1 << 2;
const SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3;
const SECCOMP_RET_USER_NOTIF = 0x7fc00000;
const SECCOMP_RET_ALLOW = 0x7fff0000;
const SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1;
const SECCOMP_IOCTL_NOTIF_RECV = 0xc0502100;
const SECCOMP_IOCTL_NOTIF_SEND = 0xc0182101;
const SECCOMP_IOCTL_NOTIF_ADDFD = 0x40182103;
const notificationBytes = 80;

// <linux/filter.h>: what a filter is made of.
const loadWord = 0x20;
const jumpIfEqual = 0x15;
const returnValue = 0x06;
/** struct seccomp_data: nr, arch, instruction pointer, six arguments. */
const offsets = { number: 0, architecture: 4, argument: (index: number) => 16 + 8 * index };

const O_RDWR = 2;
const O_CLOEXEC = 0o2000000;
const POLLIN = 1;

/** A system call that waits for an answer. */
export interface HeldCall {
  id: bigint;
  /** The thread that made it. */
  pid: number;
  /** `open`: for reading and writing, with no other flag; `pathAddress` is where the caller's memory has the path. */
  call: { kind: 'exec' } | { kind: 'open'; pathAddress: bigint };
}

/**
 * Holds up some system calls of the calling thread and of everything that it starts from now on, until they are answered: each exec, and each open of
 * a file for reading and writing without any other flag. There is no way back for the thread. The answers come from whoever has the
 * descriptor; once nobody has it open any more, such calls fail with ENOSYS. See seccomp_unotify(2). Needs Linux 5.14.
 */
export function holdSystemCalls(): number {
  const { seccomp } = thisMachine();
  const syscall = libcFunction('long syscall(long, unsigned int, unsigned long, void*)');
  const instructions = filterProgram();
  // struct sock_fprog: the number of instructions, and where they are.
  const program = Buffer.alloc(16);
  program.writeUInt16LE(instructions.length / 8, 0);
  program.writeBigUInt64LE(koffi().address(instructions), 8);
  // Without SPEC_ALLOW, older kernels slow down everything that a filtered process does.
  const flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  return checkedCall('seccomp', () => syscall(seccomp, SECCOMP_SET_MODE_FILTER, flags, program));
}

/** Receives and answers held calls, on any thread. Owns the descriptor. */
export class SystemCallListener {
  readonly fd: number;
  #isOpen = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Resolves when a call waits, or `timeoutMs` have passed. Meanwhile it takes one of Node's threads for blocking work. */
  wait(timeoutMs: number): Promise<void> {
    const poll = libcFunction('int poll(void*, unsigned long, int)');
    const request = Buffer.alloc(8);
    request.writeInt32LE(this.fd, 0);
    request.writeInt16LE(POLLIN, 4);
    return callOnOtherThread(poll, request, 1, timeoutMs);
  }

  /** The next call that waits; undefined when there is none. */
  receive(): HeldCall | undefined {
    const poll = libcFunction('int poll(void*, unsigned long, int)');
    const request = Buffer.alloc(8);
    request.writeInt32LE(this.fd, 0);
    request.writeInt16LE(POLLIN, 4);
    // Receiving would wait.
    if (Number(poll(request, 1, 0)) <= 0 || (request.readInt16LE(6) & POLLIN) === 0) return undefined;
    const notification = Buffer.alloc(notificationBytes);
    try {
      this.#control(SECCOMP_IOCTL_NOTIF_RECV, notification);
    } catch (error) {
      if (isGone(error)) return undefined; // its thread was killed meanwhile
      throw error;
    }
    const { execve, openat } = thisMachine();
    const number = notification.readInt32LE(16);
    const argument = (index: number) => notification.readBigUInt64LE(32 + 8 * index);
    return {
      id: notification.readBigUInt64LE(0),
      pid: notification.readUInt32LE(8),
      call: number === execve ? { kind: 'exec' } : { kind: 'open', pathAddress: argument(number === openat ? 1 : 0) },
    };
  }

  /** Lets the kernel do the call. */
  allow({ id }: HeldCall): void {
    this.#respond(id, { flags: SECCOMP_USER_NOTIF_FLAG_CONTINUE });
  }

  /** Fails the call. */
  refuse({ id }: HeldCall, code: keyof typeof constants.errno): void {
    this.#respond(id, { error: -constants.errno[code] });
  }

  /**
   * Answers an open with a copy of descriptor `fd`, which allows what `fd` allows. A caller that is interrupted in an instant of it may keep that copy and
   * make its call anew.
   */
  answerWithDescriptor({ id }: HeldCall, fd: number): void {
    const request = Buffer.alloc(24);
    request.writeBigUInt64LE(id, 0);
    request.writeUInt32LE(fd, 12);
    request.writeUInt32LE(O_CLOEXEC, 20);
    // Not with SECCOMP_ADDFD_FLAG_SEND, which does both: when a signal interrupts this thread in it, the kernel adds nothing and answers 0 all
    // the same, so that the caller takes its standard input for its file.
    const added = this.#answer(SECCOMP_IOCTL_NOTIF_ADDFD, request);
    if (added !== undefined) this.#respond(id, { value: added });
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.fd);
  }

  #respond(id: bigint, { value = 0, error = 0, flags = 0 }: { value?: number; error?: number; flags?: number }): void {
    const response = Buffer.alloc(24);
    response.writeBigUInt64LE(id, 0);
    response.writeBigInt64LE(BigInt(value), 8);
    response.writeInt32LE(error, 16);
    response.writeUInt32LE(flags, 20);
    this.#answer(SECCOMP_IOCTL_NOTIF_SEND, response);
  }

  /** Undefined when the caller was killed meanwhile: it needs no answer. */
  #answer(request: number, argument: Buffer): number | undefined {
    try {
      return this.#control(request, argument);
    } catch (error) {
      if (!isGone(error)) throw error;
      return undefined;
    }
  }

  #control(request: number, argument: Buffer): number {
    const ioctl = libcFunction('int ioctl(int, unsigned long, void*)');
    for (;;) {
      try {
        return checkedCall('ioctl', () => ioctl(this.fd, request, argument), 'seccomp');
      } catch (error) {
        // By a signal of this process; nothing was done.
        if (!(error instanceof SystemCallError && error.code === 'EINTR')) throw error;
      }
    }
  }
}

function isGone(error: unknown): boolean {
  return error instanceof SystemCallError && error.code === 'ENOENT';
}

function thisMachine(): Machine {
  const machine = machines[process.arch];
  if (!machine) throw new Error(`cannot filter system calls on ${process.arch}: its numbers are not known`);
  return machine;
}

/** `[code, jump if true, jump if false, operand]` each; jumps count the instructions that they leave out. */
function filterProgram(): Buffer {
  const { audit, execve, openat, open } = thisMachine();
  const program: [number, number, number, number][] = [
    [loadWord, 0, 0, offsets.architecture],
    [jumpIfEqual, 1, 0, audit],
    [returnValue, 0, 0, SECCOMP_RET_ALLOW],
    [loadWord, 0, 0, offsets.number],
    [jumpIfEqual, 0, 1, execve],
    [returnValue, 0, 0, SECCOMP_RET_USER_NOTIF],
  ];
  const opens = [
    { number: openat, flagsArgument: 2 },
    { number: open, flagsArgument: 1 },
  ];
  for (const { number, flagsArgument } of opens) {
    if (number === undefined) continue;
    program.push(
      [jumpIfEqual, 0, 4, number],
      [loadWord, 0, 0, offsets.argument(flagsArgument)],
      [jumpIfEqual, 0, 1, O_RDWR],
      [returnValue, 0, 0, SECCOMP_RET_USER_NOTIF],
      [returnValue, 0, 0, SECCOMP_RET_ALLOW],
    );
  }
  program.push([returnValue, 0, 0, SECCOMP_RET_ALLOW]);
  const packed = Buffer.alloc(program.length * 8);
  for (const [index, [code, ifTrue, ifFalse, operand]] of program.entries()) {
    packed.writeUInt16LE(code, index * 8);
    packed.writeUInt8(ifTrue, index * 8 + 2);
    packed.writeUInt8(ifFalse, index * 8 + 3);
    packed.writeUInt32LE(operand, index * 8 + 4);
  }
  return packed;
}
