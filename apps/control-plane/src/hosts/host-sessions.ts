import { Http2SessionManager } from '@connectrpc/connect-node';

/** The longest that a timer of Node.js can run: some 24 days. */
const maxTimerMs = 2 ** 31 - 1;

/** When a session's connection is tested and closed, in milliseconds. */
export interface SessionTimers {
  /** A silent connection is tested with a PING this often. Default 20 000. */
  pingIntervalMs?: number;
  /** A connection without calls is closed after this. Default: as good as never, as the host monitor calls every minute anyway. */
  idleConnectionTimeoutMs?: number;
}

/**
 * The HTTP/2 sessions to one host. No timer here may meet the period of a caller: a session that is closed in the moment in which a
 * call found it open made older releases of connect-node (below 2.3) wait for it without ever yielding.
 *
 * A session that ends with an error may report it after its manager has let go of it: a host agent that says good-bye while a new call
 * begins. Node.js ends the process for an error that nobody listens to, so each session that ever carried a call keeps a
 * listener. The calls themselves fail through their own streams.
 */
export class HostSessions extends Http2SessionManager {
  readonly #watched = new WeakSet<object>();

  constructor(url: string, { pingIntervalMs = 20_000, idleConnectionTimeoutMs = maxTimerMs }: SessionTimers = {}) {
    super(url, { pingIntervalMs, idleConnectionTimeoutMs, pingIdleConnection: true });
  }

  override async request(
    ...args: Parameters<Http2SessionManager['request']>
  ): ReturnType<Http2SessionManager['request']> {
    const stream = await super.request(...args);
    const { session } = stream;
    if (session && !this.#watched.has(session)) {
      this.#watched.add(session);
      session.on('error', () => undefined);
    }
    return stream;
  }
}
