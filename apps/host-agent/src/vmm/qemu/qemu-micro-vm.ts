import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { KeyedLock } from '@aviary/service-kit';
import type { DiskLayer } from '../../disk/disk-store.ts';
import { lastOutputOf } from '../last-output.ts';
import { readDirtyPages } from '../process/dirty-pages.ts';
import type { VmmProcess } from '../process/vmm-process.ts';
import type { GuestPages, MicroVm, VmExit, VmmRecord } from '../vmm.ts';
import { consoleBytes, diskOptions } from './arguments.ts';
import type { Launched } from './launch.ts';
import type { QmpClient } from './qmp-client.ts';

/** Flushing a drive waits for the host's disk. */
const flushTimeoutMs = 120_000;
/** Device state is tens of KiB; a VMM that writes more than this is out of order. */
const maxStateBytes = 64 * 1024 * 1024;

const guestEnds: Record<string, string> = {
  'guest-shutdown': 'guest powered off',
  'guest-reset': 'guest restarted or its kernel panicked',
  'guest-panic': 'guest kernel panicked',
  'host-signal': 'VMM was asked to end by a signal',
};

/** One microVM in a QEMU of its own. */
export class QemuMicroVm implements MicroVm {
  readonly record: VmmRecord;
  readonly exited: Promise<VmExit>;
  readonly #qmp: QmpClient;
  readonly #process: VmmProcess;
  readonly #lock = new KeyedLock<'state'>();
  /** True when it was paused here and not resumed since. An earlier agent may have paused it, too: then QEMU is asked. */
  #isPaused = false;
  #isOutOfSpace = false;

  constructor({ record, qmp, process, events }: Launched) {
    this.record = record;
    this.#qmp = qmp;
    this.#process = process;
    this.exited = process.exited;
    events.onEvent = ({ event, data }) => {
      // If the VMM cannot be ended now, releasing the microVM tries again.
      if (event === 'SHUTDOWN') this.endAfterGuest(String(data['reason'])).catch(() => undefined);
      // Drives stop the guest for a full disk and for nothing else (`werror=enospc`, QEMU's default); `cont` tries the write again.
      else if (event === 'BLOCK_IO_ERROR' && data['action'] === 'stop') this.#isOutOfSpace = data['nospace'] === true;
      else if (event === 'RESUME') this.#isOutOfSpace = false;
    };
  }

  get isOutOfSpace(): boolean {
    return this.#isOutOfSpace;
  }

  /** Asks what events told an earlier agent. */
  async findOutOfSpace(): Promise<void> {
    const { status } = (await this.#qmp.execute('query-status')) as { status?: unknown };
    const drives = (await this.#qmp.execute('query-block')) as { 'io-status'?: unknown }[];
    this.#isOutOfSpace = status === 'io-error' && drives.some((drive) => drive['io-status'] === 'nospace');
  }

  /**
   * Ends the VMM, which waits after its guest's end, once the last words of the console are read. `cause` is that of a SHUTDOWN event
   * (QEMU's qapi/run-state.json), or undefined when nobody has heard it.
   */
  async endAfterGuest(cause?: string): Promise<void> {
    const lastOutput = lastOutputOf(await this.consoleTail().catch(() => ''));
    const reason =
      cause === undefined
        ? 'guest ended while no host agent watched it'
        : (guestEnds[cause] ?? `VMM shut down: ${cause.slice(0, 100)}`);
    await this.#process.endAfterGuest({ reason, lastOutput });
  }

  /** True when the guest has ended and the VMM waits to be ended. */
  async hasGuestEnded(): Promise<boolean> {
    const { status } = (await this.#qmp.execute('query-status')) as { status?: unknown };
    return status === 'shutdown';
  }

  async pause(): Promise<void> {
    // Stopping flushes the drives as well.
    await this.#alone(() => this.#qmp.execute('stop', {}, { timeoutMs: flushTimeoutMs }));
    this.#isPaused = true;
  }

  async resume(): Promise<void> {
    this.#isPaused = false;
    await this.#alone(() => this.#qmp.execute('cont'));
  }

  /**
   * Saves with QEMU's `xen-save-devices-state`, which leaves RAM out however it is mapped and leaves the machine as it was. A
   * migration with `x-ignore-shared` would send all of a privately mapped RAM, and close the drives. The stream is
   * loaded as a migration's; the arguments drop the parts of it that this command does not write.
   */
  async saveState(statePath: string): Promise<void> {
    await this.#alone(async () => {
      await this.#requirePaused('save');
      const written = path.join(this.record.runDirectory, 'state.tmp');
      await rm(written, { force: true });
      try {
        await this.#qmp.execute(
          'xen-save-devices-state',
          { filename: written, live: false },
          { timeoutMs: flushTimeoutMs },
        );
        await copyDurably(written, statePath);
      } catch (error) {
        await rm(statePath, { force: true });
        throw error;
      } finally {
        await rm(written, { force: true });
      }
    });
  }

  async dirtyPages(onRange: (range: GuestPages) => void | Promise<void>): Promise<void> {
    const { pid, guestMemory } = this.record;
    if (guestMemory.mapping === 'shared') {
      throw new AppError(
        'invalid_state',
        `cannot list the dirty pages of microVM ${this.record.id}: it was booted, so its memory file is complete`,
      );
    }
    // Not alone: no device writes guest memory when its state is saved, as a migration sends RAM before it (QEMU's migration/savevm.c).
    await this.#requirePaused('read the dirty pages of');
    await readDirtyPages({ pid, file: guestMemory.path }, onRange);
  }

  async flushDisk(): Promise<void> {
    await this.#alone(async () => {
      await this.#requirePaused('flush the disk of');
      // QMP has no flush of its own, and `stop` hides a failed one.
      const answer = await this.#qmp.execute(
        'human-monitor-command',
        { 'command-line': `qemu-io ${(await this.#activeDisk()).node} "flush"` },
        { timeoutMs: flushTimeoutMs },
      );
      if (typeof answer !== 'string' || answer.trim() !== '') {
        throw new AppError(
          'internal',
          `cannot flush the disk of microVM ${this.record.id}: ${String(answer).trim().slice(0, 500)}`,
        );
      }
    });
  }

  /**
   * Puts the layer over the node in use (`blockdev-snapshot`), which becomes read-only. Its header may name another file as its
   * base, one with the same content: this VMM goes on reading the file that it has open. See QEMU's
   * docs/interop/live-block-operations.rst.
   */
  async switchDisk(layer: DiskLayer): Promise<void> {
    await this.#alone(async () => {
      await this.#requirePaused('switch the disk of');
      const active = await this.#activeDisk();
      if (active.file === layer.path) return;
      const node = `layer-${randomBytes(8).toString('hex')}`;
      const file = { driver: 'file', filename: layer.path };
      await this.#qmp.execute('blockdev-add', {
        ...{ driver: layer.format, 'node-name': node, file, backing: null },
        ...diskOptions,
      });
      try {
        await this.#qmp.execute(
          'blockdev-snapshot',
          { node: active.node, overlay: node },
          { timeoutMs: flushTimeoutMs },
        );
      } catch (error) {
        // An answer that was lost says nothing about what was done.
        if ((await this.#activeDisk()).node === node) return;
        await this.#qmp.execute('blockdev-del', { 'node-name': node });
        throw error;
      }
    });
  }

  async diskPath(): Promise<string> {
    return (await this.#activeDisk()).file;
  }

  /** The layer that the guest's writes go to: the only drive that is not read-only. QEMU is asked, for an earlier agent may have switched it. */
  async #activeDisk(): Promise<{ node: string; file: string }> {
    const drives = (await this.#qmp.execute('query-block')) as { inserted?: Record<string, unknown> }[];
    const [active, ...others] = drives.flatMap(({ inserted }) => (inserted?.['ro'] === false ? [inserted] : []));
    const { 'node-name': node, file } = active ?? {};
    if (typeof node !== 'string' || typeof file !== 'string' || others.length > 0)
      throw new AppError('internal', `cannot find the disk of microVM ${this.record.id} in its VMM`);
    return { node, file };
  }

  async consoleTail(): Promise<string> {
    const text = await this.#qmp.execute('ringbuf-read', { device: 'console', size: consoleBytes, format: 'base64' });
    this.#consoleText = (this.#consoleText + Buffer.from(String(text), 'base64').toString('latin1')).slice(
      -consoleBytes,
    );
    return this.#consoleText;
  }
  /** Reading empties QEMU's ring, so what was read is kept here. */
  #consoleText = '';

  async kill(): Promise<void> {
    await this.#process.kill();
    this.#qmp.close();
    for (const name of ['qmp.sock', 'incoming.sock'])
      await rm(path.join(this.record.runDirectory, name), { force: true });
  }

  /** Lets go of the VMM, which runs on. */
  letGo(): void {
    this.#process.letGo();
    this.#qmp.close();
  }

  async #requirePaused(verb: string): Promise<void> {
    // A VMM that is busy, e.g. saving state, answers late.
    if (this.#isPaused) return;
    const status = (await this.#qmp.execute('query-status')) as { status?: unknown; running?: unknown };
    if (status.running !== false) {
      throw new AppError(
        'invalid_state',
        `cannot ${verb} microVM ${this.record.id}: it is ${String(status.status)}; pause it first`,
      );
    }
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#lock.run('state', work);
  }
}

/** Copies a file that the VMM wrote, into one of ours. The VMM's directory is its own, so links are not followed. */
async function copyDurably(from: string, to: string): Promise<void> {
  await using source = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const stats = await source.stat();
  if (!stats.isFile() || stats.size === 0 || stats.size > maxStateBytes) {
    throw new AppError(
      'integrity',
      `cannot save device state: the VMM wrote ${stats.size} bytes, which is not a device state`,
    );
  }
  const { buffer, bytesRead } = await source.read({ buffer: Buffer.alloc(stats.size), position: 0 });
  await using target = await open(to, 'wx', 0o600);
  await target.writeFile(buffer.subarray(0, bytesRead));
  await target.sync();
}
