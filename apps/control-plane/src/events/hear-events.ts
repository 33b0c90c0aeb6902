import { runLoop, withDeadline } from '@aviary/service-kit';
import type { ServiceContext } from '../context.ts';
import type { Loop } from '../module.ts';
import {
  addConsumer,
  type EventPosition,
  listAuthEvents,
  listSandboxEvents,
  type PlacedEvent,
  readPosition,
  savePosition,
} from './event-consumer-store.ts';
import type { ModuleHooks } from './module-hooks.ts';

export interface HearingOptions {
  /** How often is looked for events. */
  intervalMs: number;
  /** An event that a hook failed at this often in a row is given up. */
  maxAttempts: number;
  /** How long a hook may take for one event. */
  timeoutMs: number;
}

export const defaultHearingOptions: HearingOptions = { intervalMs: 1_000, maxAttempts: 8, timeoutMs: 10_000 };

/** Events that are read at once. */
const batch = 100;

type Deps = Pick<ServiceContext, 'database' | 'clock' | 'logger'>;

/** One hook of one module, and how far it has heard. */
interface Consumer<E> {
  name: string;
  list: (db: Deps['database']['db'], after: EventPosition, limit: number) => Promise<PlacedEvent<E>[]>;
  tell: (event: E, signal: AbortSignal) => Promise<void>;
  /** Failures in a row of the event that is next. */
  failures: number;
}

/** Notes the hooks that are new, and makes a loop for each. */
export async function startHearing(
  deps: Deps,
  modules: readonly { name: string; hooks: ModuleHooks }[],
  options: HearingOptions,
): Promise<Loop[]> {
  const loops: Loop[] = [];
  const add = async <E>(consumer: Omit<Consumer<E>, 'failures'>) => {
    await addConsumer(deps.database.db, consumer.name);
    const hearing = { ...consumer, failures: 0 };
    const { clock, logger } = deps;
    loops.push((signal) =>
      runLoop(
        { name: `events of ${consumer.name}`, intervalMs: options.intervalMs, clock, logger },
        () => hearOnce(deps, hearing, { ...options, signal }),
        signal,
      ),
    );
  };
  for (const { name, hooks } of modules) {
    const { onSandboxEvent, onAuthEvent } = hooks;
    if (onSandboxEvent)
      await add({ name: `${name}/sandboxes`, list: listSandboxEvents, tell: onSandboxEvent.bind(hooks) });
    if (onAuthEvent) await add({ name: `${name}/auth`, list: listAuthEvents, tell: onAuthEvent.bind(hooks) });
  }
  return loops;
}

/** Tells a hook all that it has not heard, unless another replica does. */
async function hearOnce<E>(
  deps: Deps,
  consumer: Consumer<E>,
  options: HearingOptions & { signal: AbortSignal },
): Promise<void> {
  const { database } = deps;
  await database.tryWithLock(`aviary:events:${consumer.name}`, async () => {
    for (let isMore = true; isMore && !options.signal.aborted; ) {
      const events = await consumer.list(database.db, await readPosition(database.db, consumer.name), batch);
      for (const placed of events) {
        if (options.signal.aborted) return;
        await tellOne(deps, { consumer, event: placed.event }, options);
        await savePosition(database.db, consumer.name, placed);
      }
      isMore = events.length === batch;
    }
  });
}

/** Throws when the hook failed and is to be told again. */
async function tellOne<E>(
  { logger }: Deps,
  { consumer, event }: { consumer: Consumer<E>; event: E },
  { signal, timeoutMs, maxAttempts }: HearingOptions & { signal: AbortSignal },
): Promise<void> {
  try {
    await withDeadline({ what: `the hook ${consumer.name}`, timeoutMs, parent: signal }, (ended) =>
      consumer.tell(event, ended),
    );
  } catch (error) {
    if (signal.aborted || ++consumer.failures < maxAttempts) throw error;
    logger.error({ hook: consumer.name, event, err: error }, 'an event is given up: its hook failed again and again');
  }
  consumer.failures = 0;
}
