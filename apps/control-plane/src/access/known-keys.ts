import type { ApiKeyId, KeyScope, TeamId } from '@aviary/core';
import { sha256Hex } from '../secrets.ts';

/** What is so of a key as long as there is one: it is never written again. Whether it is still good is not among it. */
export interface KeyFacts {
  id: ApiKeyId;
  teamId: TeamId;
  name: string;
  scopes: readonly KeyScope[];
}

/** Keys that are remembered at most; those that were met first are forgotten first. */
const maxKeys = 10_000;

/** Whose keys were good when they were last looked up: enough to ask, in one query, for a thing of that team if the key still is. */
export class KnownKeys {
  readonly #facts = new Map<string, KeyFacts>();

  get(key: string): KeyFacts | undefined {
    return this.#facts.get(sha256Hex(key));
  }

  remember(key: string, { id, teamId, name, scopes }: KeyFacts): void {
    const hash = sha256Hex(key);
    if (this.#facts.size >= maxKeys && !this.#facts.has(hash))
      for (const oldest of this.#facts.keys()) {
        this.#facts.delete(oldest);
        break;
      }
    this.#facts.set(hash, { id, teamId, name, scopes });
  }
}
