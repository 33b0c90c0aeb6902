import type { ApiKey, Caller, CreateApiKey, CreatedApiKey } from './resources.ts';
import type { CallOptions, Transport } from './transport.ts';

/** The team's keys for programs: for people who have logged in. Every method throws AviaryError. */
export class ApiKeys {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The answer has the key itself, which is shown this once. */
  async create(request: CreateApiKey, options: CallOptions = {}): Promise<CreatedApiKey> {
    const call = { method: 'POST', path: '/v1/api-keys', json: request, isSentOnce: true } as const;
    return await this.#transport.json({ ...call, ...options });
  }

  /** Newest first, without those that were revoked. */
  list(options: CallOptions = {}): AsyncGenerator<ApiKey, void, undefined> {
    return this.#transport.pages({ method: 'GET', path: '/v1/api-keys', ...options });
  }

  /** Who calls with the client's credential, a key or a log-in, and for which team. */
  async caller(options: CallOptions = {}): Promise<Caller> {
    return await this.#transport.json({ method: 'GET', path: '/v1/caller', ...options });
  }

  async revoke(id: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: `/v1/api-keys/${encodeURIComponent(id)}`, ...options });
  }
}
