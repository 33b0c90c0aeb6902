import type { Host } from './resources.ts';
import type { CallOptions, Transport } from './transport.ts';

/** The machines on which the team's sandboxes run. Every method throws AviaryError. */
export class Hosts {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async list(options: CallOptions = {}): Promise<Host[]> {
    const { items } = await this.#transport.json<{ items: Host[] }>({ method: 'GET', path: '/v1/hosts', ...options });
    return items;
  }
}
