import { Http2SessionManager } from '@connectrpc/connect-node';

/**
 * The HTTP/2 sessions to one host. A session that ends with an error may report it after its manager has let go of it: a host
 * agent that says good-bye while a new call begins. Node.js ends the process for an error that nobody listens to, so each
 * session that ever carried a call keeps a listener. The calls themselves fail through their own streams.
 */
export class HostSessions extends Http2SessionManager {
  readonly #watched = new WeakSet<object>();

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
