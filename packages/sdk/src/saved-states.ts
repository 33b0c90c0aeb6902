import type { Generation, Snapshot } from './resources.ts';
import { sandboxPath } from './sandboxes.ts';
import { type CallOptions, type Transport, type WaitOptions, waiting } from './transport.ts';

/** The saved states of one sandbox: a tree that can be named, pinned and rewound to. */
export class Generations {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async list(sandboxId: string, options: CallOptions = {}): Promise<Generation[]> {
    const path = sandboxPath(sandboxId, '/generations');
    const { items } = await this.#transport.json<{ items: Generation[] }>({ method: 'GET', path, ...options });
    return items;
  }

  /** Names a generation, or pins it so that it is never cleaned up. */
  async update(
    { sandboxId, generationId }: { sandboxId: string; generationId: string },
    change: { name?: string | null; pinned?: boolean },
    options: CallOptions = {},
  ): Promise<Generation> {
    const path = sandboxPath(sandboxId, `/generations/${encodeURIComponent(generationId)}`);
    return await this.#transport.json({ method: 'PATCH', path, json: change, ...options });
  }
}

/** Named saved states that outlive their sandbox. */
export class Snapshots {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async create(
    snapshot: { sandbox_id: string; name: string; overwrite?: boolean },
    options: WaitOptions = {},
  ): Promise<Snapshot> {
    return await this.#transport.json({ method: 'POST', path: '/v1/snapshots', json: snapshot, ...waiting(options) });
  }

  /** The team's snapshots and the platform's templates. */
  list(options: CallOptions = {}): AsyncGenerator<Snapshot, void, undefined> {
    return this.#transport.pages({ method: 'GET', path: '/v1/snapshots', ...options });
  }

  async delete(name: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: `/v1/snapshots/${encodeURIComponent(name)}`, ...options });
  }
}
