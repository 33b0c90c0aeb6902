import { AppError, errorText, type SandboxId } from '@aviary/core';
import { type Clock, hostDiskFull, KeyedLock, type Logger } from '@aviary/service-kit';
import type { EventOutbox, EventSubject } from '../control-plane/event-outbox.ts';
import type { GuestClient } from '../guest/guest-client.ts';
import type { NetworkSlot } from '../network/network-slot.ts';
import type { MicroVm } from '../vmm/vmm.ts';
import type { SandboxJournal } from './sandbox-journal.ts';
import type { ActivityKind, RecordIn, SandboxFacts, SandboxRecord } from './sandbox-record.ts';
import { factualEvents, type RecordEvent, step, unwrittenEvents } from './sandbox-step.ts';
import { toldEvent } from './told-event.ts';

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
  /** Changed by the registry alone. */
  readonly record: SandboxRecord;
  running?: RunningParts;
  /** Streams and transfers under way: a sandbox that has some is not idle. */
  openStreams: number;
}

export type RunningSandbox = Sandbox & { readonly record: RecordIn<'running'>; running: RunningParts };

/** Whether a sandbox runs, and its guest can be worked with. */
export function isRunningSandbox(sandbox: Sandbox): sandbox is RunningSandbox {
  return sandbox.record.state === 'running' && sandbox.running !== undefined;
}

/** Why a sandbox is as it is, for people: what keeps it from working now, before what is kept of its last command. */
export function visibleReason({ record, running }: Sandbox): string {
  return running?.trouble && record.state === 'running' ? guestTroubles[running.trouble] : record.reason;
}

/** A guest whose vCPUs stand still until the host has space answers nothing: the disk is to blame, not the guest. */
export function waitsForSpace(cause?: unknown): AppError {
  return hostDiskFull('reach the guest, which waits for space', cause);
}

export interface RegistryDeps {
  journal: Pick<SandboxJournal, 'write' | 'remove'>;
  clock: Clock;
  events: Pick<EventOutbox, 'push' | 'sequence'>;
  logger: Logger;
}

/** The host's sandboxes: the records of the journal, with what runs behind them. Changes to one happen under its lock. */
export class SandboxRegistry {
  readonly #sandboxes = new Map<SandboxId, Sandbox>();
  readonly #locks = new KeyedLock<SandboxId>();
  readonly #deps: RegistryDeps;
  readonly clock: Clock;
  readonly events: Pick<EventOutbox, 'push' | 'sequence'>;

  constructor(deps: RegistryDeps) {
    this.#deps = deps;
    this.clock = deps.clock;
    this.events = deps.events;
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
  getRunning(sandboxId: SandboxId): RunningSandbox {
    const sandbox = this.get(sandboxId);
    if (!isRunningSandbox(sandbox)) {
      const { state, reason } = sandbox.record;
      throw new AppError('invalid_state', `the sandbox is ${state}, not running; resume it or wait for it first`, {
        details: { state, reason },
      });
    }
    return sandbox;
  }

  /** As {@link getRunning}; throws `disk_full` for a guest that answers nothing until its host has space. */
  getAnswering(sandboxId: SandboxId): RunningSandbox {
    const sandbox = this.getRunning(sandboxId);
    if (sandbox.running.vm.isOutOfSpace) throw waitsForSpace();
    return sandbox;
  }

  list(): Sandbox[] {
    return [...this.#sandboxes.values()];
  }

  /** Adds a sandbox whose record is in the journal. */
  add(record: SandboxRecord): Sandbox {
    const sandbox: Sandbox = { record, openStreams: 0 };
    this.#sandboxes.set(record.sandboxId, sandbox);
    return sandbox;
  }

  /** Adds a new sandbox, and makes its record durable before anything is taken for it. */
  async create(record: RecordIn<'starting'>): Promise<Sandbox> {
    const sandbox = this.add(record);
    try {
      await this.#deps.journal.write(record);
    } catch (error) {
      this.#sandboxes.delete(record.sandboxId);
      throw error;
    }
    return sandbox;
  }

  /**
   * The one way from a state to the next: the journal says so first, the control plane is told after it. Throws when the journal cannot
   * be written, and the sandbox is as before; of what has happened already the record tells nevertheless. An event that cannot
   * be kept for the control plane is left to its next look at this host.
   */
  async transition(sandbox: Sandbox, event: RecordEvent): Promise<void> {
    const before = sandbox.record;
    const written = unwrittenEvents.has(event.kind) ? Promise.resolve() : this.#deps.journal.write(step(before, event));
    if (factualEvents.has(event.kind)) {
      replaceRecord(sandbox, step(before, event));
      await written.catch((error: unknown) => this.#warn(sandbox, error, `cannot write down that ${event.kind}`));
    } else {
      await written;
      // Somebody may have used it meanwhile, which is no change of state.
      replaceRecord(sandbox, step(sandbox.record, event));
    }
    const told = toldEvent(before, event, sandbox.record);
    if (told) {
      await this.events
        .push(told.name, subjectOf(sandbox), told.facts)
        .catch((error: unknown) => this.#warn(sandbox, error, `control plane not told of ${told.name}`));
    }
  }

  /** Changes what has nothing to do with the state, and makes it durable. */
  async amend(sandbox: Sandbox, change: Pick<SandboxFacts, 'timeoutSec'>): Promise<void> {
    await this.#deps.journal.write({ ...sandbox.record, ...change });
    replaceRecord(sandbox, { ...sandbox.record, ...change });
  }

  /** Forgets the sandbox. What it held must be released. */
  async remove(sandboxId: SandboxId): Promise<void> {
    await this.#deps.journal.remove(sandboxId);
    this.#sandboxes.delete(sandboxId);
  }

  /** Notes that somebody uses the sandbox. Kept in memory; it reaches the journal with the next change. */
  touch(sandbox: Sandbox, kind: ActivityKind): void {
    replaceRecord(sandbox, { ...sandbox.record, lastActiveAtMs: this.clock.now(), lastActivity: kind });
  }

  #warn({ record: { sandboxId } }: Sandbox, error: unknown, message: string): void {
    this.#deps.logger.warn({ sandboxId, error: errorText(error) }, message);
  }
}

/** Whom an event is about: a sandbox, and which of its runs. */
export function subjectOf({ record }: Sandbox): EventSubject {
  return { sandboxId: record.sandboxId, run: record.runNumber };
}

function replaceRecord(sandbox: { record: SandboxRecord }, record: SandboxRecord): void {
  sandbox.record = record;
}
