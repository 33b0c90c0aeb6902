import { AppError } from '@aviary/core';
import { runLoop } from '@aviary/service-kit';
import type { FastifyRequest } from 'fastify';
import type { ServiceContext } from '../context.ts';
import { type AccessSubject, accessChannel, subjectName } from './access-change-store.ts';

/** What is open for longer is looked at this often by itself: a notice may be lost, and a key may expire. */
const lookMs = 60_000;

/** A call that has been let in and is not over. */
export interface OpenCall {
  requestId: string;
  /** By whose right it was let in. */
  subjects: readonly AccessSubject[];
  /** Lets it in once more, with the credential that it came with at `cameAt`. Rejects when it would be refused now. */
  admitAgain(cameAt: Date): Promise<unknown>;
  /** Ends it; `error` says why. */
  end(error: AppError): void;
}

interface Entry extends OpenCall {
  openedAtMs: number;
}

const refusals: readonly string[] = ['unauthorized', 'forbidden', 'not_found'];

/** The calls that are open in this process. They end as soon as their callers would no longer be let in. */
export class OpenCalls {
  readonly #deps: Pick<ServiceContext, 'database' | 'clock' | 'logger'>;
  readonly #bySubject = new Map<string, Set<Entry>>();

  constructor(deps: Pick<ServiceContext, 'database' | 'clock' | 'logger'>) {
    this.#deps = deps;
  }

  /** Keeps `call` until the function that it returns is called. */
  add(call: OpenCall): () => void {
    const entry: Entry = { ...call, openedAtMs: this.#deps.clock.now() };
    const names = call.subjects.map(subjectName);
    for (const name of names) {
      const calls = this.#bySubject.get(name) ?? new Set();
      this.#bySubject.set(name, calls.add(entry));
    }
    return () => {
      for (const name of names) {
        const calls = this.#bySubject.get(name);
        calls?.delete(entry);
        if (calls?.size === 0) this.#bySubject.delete(name);
      }
    };
  }

  /** Hears of changes until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { database, clock, logger } = this.#deps;
    const warn = (error: unknown) => logger.warn({ err: error }, 'open calls are not looked at');
    const listener = {
      onNotice: (text: string) => void this.#hear(text).catch(warn),
      onGap: () => void this.lookAtAll().catch(warn),
      onError: (error: unknown) => logger.warn({ err: error }, 'notices of changed access are interrupted'),
    };
    await Promise.all([
      database.listen(accessChannel, listener, signal),
      runLoop(
        { name: 'open-calls', intervalMs: lookMs, clock, logger },
        () => this.lookAtAll(clock.now() - lookMs),
        signal,
      ),
    ]);
  }

  /** Looks at all calls that were opened before `openedBeforeMs`, or at all. */
  async lookAtAll(openedBeforeMs = Infinity): Promise<void> {
    const calls = new Set([...this.#bySubject.values()].flatMap((some) => [...some]));
    for (const call of calls) if (call.openedAtMs < openedBeforeMs) await this.#lookAt(call);
  }

  async #hear(text: string): Promise<void> {
    const [subject = '', exceptRequestId] = text.split(' ');
    for (const call of [...(this.#bySubject.get(subject) ?? [])])
      if (call.requestId !== exceptRequestId) await this.#lookAt(call);
  }

  async #lookAt(call: Entry): Promise<void> {
    try {
      await call.admitAgain(new Date(call.openedAtMs));
    } catch (error) {
      if (error instanceof AppError && refusals.includes(error.code)) call.end(error);
      else this.#deps.logger.warn({ requestId: call.requestId, err: error }, 'an open call could not be looked at');
    }
  }
}

const endings = new WeakMap<FastifyRequest, AbortController>();

/** Aborts, with an AppError, when the caller of `request` is no longer let in. */
export function callEnd(request: FastifyRequest): AbortController {
  const known = endings.get(request) ?? new AbortController();
  endings.set(request, known);
  return known;
}

/** What `work` comes to, unless its call is ended before. */
export async function untilEnded<T>(request: FastifyRequest, work: Promise<T>): Promise<T> {
  const { signal } = callEnd(request);
  const ended = Promise.withResolvers<never>();
  const onEnd = () => ended.reject(signal.reason);
  signal.addEventListener('abort', onEnd, { once: true });
  try {
    signal.throwIfAborted();
    return await Promise.race([work, ended.promise]);
  } finally {
    signal.removeEventListener('abort', onEnd);
    // Its failure after the end is nobody's.
    work.catch(() => undefined);
  }
}
