import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { errorText, formatId, newId, type SandboxId } from '@aviary/core';
import { type Clock, type Logger, writeDurableFile } from '@aviary/service-kit';

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
  /** `evt-…`: a receiver that saw it already ignores it. */
  id: string;
  event: SandboxEventName;
  /** `sb-…` */
  sandbox_id: string;
  reason?: string;
  start_path?: string;
  generation_id?: string;
  occurred_at: string;
}

const maxBatch = 100;

/**
 * Events on their way to the control plane: one file each, on disk before anybody relies on them, removed when acknowledged.
 * Sent in order, at least once.
 */
export class EventOutbox {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #wake: () => void = () => undefined;

  constructor({ directory, clock, logger }: { directory: string; clock: Clock; logger: Logger }) {
    this.#directory = directory;
    this.#clock = clock;
    this.#logger = logger;
  }

  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
  }

  /** Makes the event durable and has it sent soon. */
  async push(
    event: SandboxEventName,
    sandboxId: SandboxId,
    facts: { reason?: string; start_path?: string; generation_id?: string } = {},
  ): Promise<void> {
    const now = this.#clock.now();
    const id = newId('event', now);
    const content: SandboxEvent = {
      id: formatId('event', id),
      event,
      sandbox_id: formatId('sandbox', sandboxId),
      ...facts,
      occurred_at: new Date(now).toISOString(),
    };
    await writeDurableFile(path.join(this.#directory, `${id}.json`), JSON.stringify(content));
    this.#wake();
  }

  /** Events not yet acknowledged, oldest first, at most 100. */
  async pending(): Promise<SandboxEvent[]> {
    const names = (await readdir(this.#directory)).filter((name) => name.endsWith('.json')).sort();
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

  /** The control plane has these. */
  async acknowledge(events: readonly SandboxEvent[]): Promise<void> {
    await Promise.all(
      events.map((event) => rm(path.join(this.#directory, `${event.id.slice('evt-'.length)}.json`), { force: true })),
    );
  }

  /** Resolves when an event was pushed since the last look, or after `timeoutMs`, or when aborted. */
  waitForPush(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
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
}
