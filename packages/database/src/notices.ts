import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

/** Who listens to a channel of the store (`NOTIFY channel, 'payload'`). */
export interface NoticeListener {
  onNotice(payload: string): void;
  /** Notices may have been missed: at the start, and after a connection that broke was replaced. Look for yourself. */
  onGap(): void;
  /** The connection broke; another one is made. */
  onError(error: unknown): void;
}

/** First and longest pause before a connection that broke is made anew. */
const minReconnectMs = 100;
const maxReconnectMs = 10_000;

/** Listens over a connection of its own, which it replaces when it breaks, until `signal` aborts. */
export async function listenOnPostgres(
  { url, channel }: { url: string; channel: string },
  listener: NoticeListener,
  signal: AbortSignal,
): Promise<void> {
  let pauseMs = minReconnectMs;
  const onConnected = () => {
    pauseMs = minReconnectMs;
    listener.onGap();
  };
  while (!signal.aborted) {
    try {
      await listenOnce({ url, channel }, { ...listener, onGap: onConnected }, signal);
    } catch (error) {
      listener.onError(error);
    }
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, maxReconnectMs);
  }
}

/** Until the connection ends; throws why, unless `signal` ended it. */
async function listenOnce(
  { url, channel }: { url: string; channel: string },
  { onNotice, onGap }: NoticeListener,
  signal: AbortSignal,
): Promise<void> {
  const client = new pg.Client({ connectionString: url, keepAlive: true, connectionTimeoutMillis: 10_000 });
  const ended = Promise.withResolvers<void>();
  // It may break before it is awaited below.
  ended.promise.catch(() => undefined);
  const stop = () => ended.resolve();
  client.on('notification', ({ payload }) => onNotice(payload ?? ''));
  client.on('error', ended.reject);
  client.on('end', () => ended.reject(new Error('the connection that listens to the database has ended')));
  signal.addEventListener('abort', stop, { once: true });
  try {
    await client.connect();
    await client.query(`LISTEN ${client.escapeIdentifier(channel)}`);
    onGap();
    if (!signal.aborted) await ended.promise;
  } finally {
    signal.removeEventListener('abort', stop);
    await client.end().catch(() => undefined);
  }
}
