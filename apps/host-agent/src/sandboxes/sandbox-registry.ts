import { AppError, type SandboxId } from '@aviary/core';
import { type Clock, KeyedLock } from '@aviary/service-kit';
import type { EventOutbox } from '../control-plane/event-outbox.ts';
import type { GuestClient } from '../guest/guest-client.ts';
import type { NetworkSlot } from '../network/network-slot.ts';
import type { MicroVm } from '../vmm/vmm.ts';
import type { SandboxJournal } from './sandbox-journal.ts';
import type { ActivityKind, SandboxRecord } from './sandbox-record.ts';

/** What a running sandbox holds in this process. All of it can be had again from the record. */
export interface RunningParts {
  vm: MicroVm;
  slot: NetworkSlot;
  guest: GuestClient;
  /** What keeps the guest from working, as `guest-watch.ts` found it. */
  trouble?: GuestTrouble;
}

/** What a running guest can suffer from without ending, and how a status reason says it. */
export const guestTroubles = {
  host_disk_full: "the host's disk is full: the guest waits for space, and goes on by itself when there is some",
  guest_silent: 'the guest agent does not answer; pause with force stops the guest hard and keeps its disk',
} as const;
export type GuestTrouble = keyof typeof guestTroubles;

export interface Sandbox {
  record: SandboxRecord;
  running?: RunningParts;
  /** Streams and transfers under way: a sandbox that has some is not idle. */
  openStreams: number;
}

export type RunningSandbox = Sandbox & { running: RunningParts };

/** Why a sandbox is as it is, for people: what keeps it from working now, before what is kept of its last command. */
export function visibleReason({ record, running }: Sandbox): string {
  return running?.trouble && record.state === 'running' ? guestTroubles[running.trouble] : record.reason;
}

/** The host's sandboxes: the records of the journal, with what runs behind them. Changes to one happen under its lock. */
export class SandboxRegistry {
  readonly #sandboxes = new Map<SandboxId, Sandbox>();
  readonly #locks = new KeyedLock<SandboxId>();
  readonly #journal: SandboxJournal;
  readonly clock: Clock;
  readonly events: EventOutbox;

  constructor({ journal, clock, events }: { journal: SandboxJournal; clock: Clock; events: EventOutbox }) {
    this.#journal = journal;
    this.clock = clock;
    this.events = events;
  }

  /** Runs `work` alone for this sandbox: commands on one sandbox happen one after the other, from the first request on. */
  lock<T>(sandboxId: SandboxId, work: () => Promise<T>): Promise<T> {
    return this.#locks.run(sandboxId, work);
  }

  isLocked(sandboxId: SandboxId): boolean {
    return this.#locks.isHeld(sandboxId);
  }

  find(sandboxId: SandboxId): Sandbox | undefined {
    return this.#sandboxes.get(sandboxId);
  }

  /** Throws `not_found`. */
  get(sandboxId: SandboxId): Sandbox {
    const sandbox = this.#sandboxes.get(sandboxId);
    if (!sandbox) throw new AppError('not_found', 'this host has no such sandbox');
    return sandbox;
  }

  /** The sandbox with its guest, for work inside it. Throws `not_found`, or `invalid_state` with the state it is in. */
  getRunning(sandboxId: SandboxId): Sandbox & { running: RunningParts } {
    const sandbox = this.get(sandboxId);
    if (sandbox.record.state !== 'running' || !sandbox.running) {
      throw new AppError(
        'invalid_state',
        `the sandbox is ${sandbox.record.state}, not running; resume it or wait for it first`,
        {
          details: { state: sandbox.record.state, reason: sandbox.record.reason },
        },
      );
    }
    return sandbox as Sandbox & { running: RunningParts };
  }

  list(): Sandbox[] {
    return [...this.#sandboxes.values()];
  }

  /** Adds a sandbox that is on disk already, or that {@link save} writes next. */
  add(record: SandboxRecord): Sandbox {
    const sandbox: Sandbox = { record, openStreams: 0 };
    this.#sandboxes.set(record.sandboxId, sandbox);
    return sandbox;
  }

  /** Changes the record and makes the change durable. */
  async save(sandbox: Sandbox, change: Partial<SandboxRecord> = {}): Promise<void> {
    Object.assign(sandbox.record, change);
    await this.#journal.write(sandbox.record);
  }

  /** Forgets the sandbox. What it held must be released. */
  async remove(sandboxId: SandboxId): Promise<void> {
    await this.#journal.remove(sandboxId);
    this.#sandboxes.delete(sandboxId);
  }

  /** Notes that somebody uses the sandbox. Kept in memory; it reaches the journal with the next change. */
  touch(sandbox: Sandbox, kind: ActivityKind): void {
    sandbox.record.lastActiveAtMs = this.clock.now();
    sandbox.record.lastActivity = kind;
  }
}
