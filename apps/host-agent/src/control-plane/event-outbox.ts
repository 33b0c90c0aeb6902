import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { errorText, formatId, newId, type SandboxId } from '@aviary/core';
import { type Clock, type Logger, nodeErrorCode, Semaphore, writeDurableFile } from '@aviary/service-kit';

export type SandboxEventName =
  | 'sandbox.started'
  | 'sandbox.paused'
  | 'sandbox.auto_paused'
  | 'sandbox.resumed'
  | 'sandbox.stopped'
  | 'sandbox.failed'
  | 'sandbox.error'
  | 'sandbox.pause_failed'
  | 'sandbox.resume_failed'
  | 'sandbox.reason_changed';

/** One thing that happened to a sandbox on this host, as the control plane is told. */
export interface SandboxEvent {
  /** `evt-…` */
  id: string;
  event: SandboxEventName;
  /** `sb-…` */
  sandbox_id: string;
  /** Which start of the sandbox it is about. */
  run: number;
  /** Its place among the events of this host. */
  sequence: number;
  reason?: string;
  start_path?: string;
  generation_id?: string;
  occurred_at: string;
}

/** What comes with an event, as far as it has any. */
export type EventFacts = Pick<SandboxEvent, 'reason' | 'start_path' | 'generation_id'>;

const maxBatch = 100;
const eventFile = /^(\d{16})\.json$/;
const markFile = 'acknowledged';

/** Which run of a sandbox an event is about. */
export interface EventSubject {
  sandboxId: SandboxId;
  run: number;
}

/**
 * Events on their way to the control plane: one file each, on disk before anybody relies on them, removed when acknowledged.
 * Sent in order, at least once. Each has the next number of this host's, which the control plane orders by: numbers go on after a
 * restart, none is given twice, and one counts only once its event is durable.
 */
export class EventOutbox {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** One at a time, so that files appear in the order of their numbers. */
  readonly #turn = new Semaphore(1);
  #sequence = 0;
  /** What {@link sequence} was when somebody looked last. */
  #lookedAt = 0;
  #wake: () => void = () => undefined;

  constructor({ directory, clock, logger }: { directory: string; clock: Clock; logger: Logger }) {
    this.#directory = directory;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** The number of the newest event: whatever is read of a sandbox now includes what events up to this one tell. */
  get sequence(): number {
    return this.#sequence;
  }

  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const acknowledged = await this.#readMark();
    this.#sequence = acknowledged;
    for (const name of await readdir(this.#directory)) {
      const sequence = Number(eventFile.exec(name)?.[1]);
      if (sequence > acknowledged) this.#sequence = Math.max(this.#sequence, sequence);
      else if (name !== markFile) await rm(path.join(this.#directory, name), { force: true });
    }
  }

  /** Makes the event durable and has it sent soon. */
  async push(event: SandboxEventName, { sandboxId, run }: EventSubject, facts: EventFacts = {}): Promise<void> {
    const now = this.#clock.now();
    await this.#turn.run(async () => {
      const sequence = this.#sequence + 1;
      const content: SandboxEvent = {
        id: formatId('event', newId('event', now)),
        event,
        sandbox_id: formatId('sandbox', sandboxId),
        run,
        sequence,
        ...facts,
        occurred_at: new Date(now).toISOString(),
      };
      await writeDurableFile(this.#file(sequence), JSON.stringify(content));
      this.#sequence = sequence;
    });
    this.#wake();
  }

  /** Events not yet acknowledged, oldest first, at most 100. */
  async pending(): Promise<SandboxEvent[]> {
    this.#lookedAt = this.#sequence;
    const names = (await readdir(this.#directory)).filter((name) => eventFile.test(name)).sort();
    const events: SandboxEvent[] = [];
    for (const name of names.slice(0, maxBatch)) {
      try {
        events.push(JSON.parse(await readFile(path.join(this.#directory, name), 'utf8')) as SandboxEvent);
      } catch (error) {
        this.#logger.error(
          { file: name, error: errorText(error) },
          'dropping an unreadable event; the reconciler will notice the difference',
        );
        await rm(path.join(this.#directory, name), { force: true });
      }
    }
    return events;
  }

  /** The control plane has these, and all before them. */
  async acknowledge(events: readonly SandboxEvent[]): Promise<void> {
    const sequence = Math.max(0, ...events.map((event) => event.sequence));
    if (sequence === 0) return;
    // First: the numbers of files that are gone must not be given again.
    await writeDurableFile(path.join(this.#directory, markFile), String(sequence));
    await Promise.all(events.map((event) => rm(this.#file(event.sequence), { force: true })));
  }

  /** Resolves when an event was pushed since the last look at what is pending, or after `timeoutMs`, or when aborted. */
  waitForPush(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted || this.#sequence !== this.#lookedAt) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        this.#wake = () => undefined;
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      signal.addEventListener('abort', done, { once: true });
      this.#wake = done;
    });
  }

  #file(sequence: number): string {
    return path.join(this.#directory, `${String(sequence).padStart(16, '0')}.json`);
  }

  async #readMark(): Promise<number> {
    try {
      const sequence = Number(await readFile(path.join(this.#directory, markFile), 'utf8'));
      return Number.isSafeInteger(sequence) && sequence > 0 ? sequence : 0;
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT') return 0;
      throw error;
    }
  }
}
