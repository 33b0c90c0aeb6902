import type { HostId } from '@aviary/core';
import { HostAgent } from '@aviary/proto/hostagent';
import { writeTraceHeaders } from '@aviary/service-kit';
import { withTranslatedErrors } from '@aviary/service-kit/connect-errors';
import { type Client, createClient, type Interceptor, type Transport } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import type { ServiceContext } from '../context.ts';
import { fromConnectError } from './from-connect-error.ts';
import { HostSessions } from './host-sessions.ts';
import { getHost, type HostRow } from './host-store.ts';
import type { SigningKey } from './signing-key.ts';

export type HostClient = Client<typeof HostAgent>;

/** Calls without a deadline of their own end after this. */
const defaultTimeoutMs = 60_000;
/** Agent tokens live ten minutes; a new one is signed well before. */
const tokenReuseMs = 5 * 60_000;
const maxMessageBytes = 64 * 1024 * 1024;

/** Where a host's agent is, and since when. */
export type HostPlace = Pick<HostRow, 'id' | 'address' | 'epoch'>;

interface Entry {
  client: HostClient;
  /** What the client was made for: when the host registers anew, it is made anew. */
  identity: string;
  close: () => void;
}

/** One lazily made Connect client per host, over HTTP/2. Its calls throw AppError. */
export class HostClients implements Disposable {
  readonly #deps: Pick<ServiceContext, 'database' | 'clock'> & { signingKey: SigningKey };
  readonly #entries = new Map<HostId, Entry>();

  constructor(deps: Pick<ServiceContext, 'database' | 'clock'> & { signingKey: SigningKey }) {
    this.#deps = deps;
  }

  /** The client of a host, at its present address and epoch. Throws `not_found`. */
  async get(hostId: HostId): Promise<HostClient> {
    return this.of(await getHost(this.#deps.database.db, hostId));
  }

  /** The client of a host that was read from the database just now. */
  of(host: HostPlace): HostClient {
    const identity = `${host.address}#${host.epoch}`;
    const known = this.#entries.get(host.id);
    if (known?.identity === identity) return known.client;
    this.evict(host.id);
    const { transport, close } = connect(host, this.#authorize(host));
    const client = withTranslatedErrors(HostAgent, createClient(HostAgent, transport), fromConnectError);
    const entry = { client, identity, close };
    this.#entries.set(host.id, entry);
    return entry.client;
  }

  /** Forgets a host's client and closes its connection. */
  evict(hostId: HostId): void {
    this.#entries.get(hostId)?.close();
    this.#entries.delete(hostId);
  }

  [Symbol.dispose](): void {
    for (const hostId of [...this.#entries.keys()]) this.evict(hostId);
  }

  #authorize({ id, epoch }: HostPlace): Interceptor {
    let token: { text: Promise<string>; signedAt: number } | undefined;
    return (next) => async (request) => {
      const now = this.#deps.clock.now();
      if (!token || now - token.signedAt > tokenReuseMs) {
        token = { text: this.#deps.signingKey.signAgentToken(id, epoch), signedAt: now };
      }
      request.header.set('authorization', `Bearer ${await token.text}`);
      writeTraceHeaders(request.header);
      return next(request);
    };
  }
}

function connect(host: HostPlace, authorize: Interceptor): { transport: Transport; close: () => void } {
  const baseUrl = /^https?:\/\//.test(host.address) ? host.address : `http://${host.address}`;
  const sessionManager = new HostSessions(baseUrl);
  const transport = createConnectTransport({
    httpVersion: '2',
    baseUrl,
    sessionManager,
    interceptors: [authorize],
    defaultTimeoutMs,
    readMaxBytes: maxMessageBytes,
    useBinaryFormat: true,
  });
  return { transport, close: () => sessionManager.abort() };
}
