import { type Argon2Parameters, argon2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { AppError } from '@aviary/core';

/** What a hash costs: memory in KiB, and passes over it. */
export interface PasswordCost {
  memoryKib: number;
  passes: number;
}

/** OWASP's Password Storage Cheat Sheet, for argon2id with one lane. */
export const defaultPasswordCost: PasswordCost = { memoryKib: 19_456, passes: 2 };

/** How many hashes are computed at once: half of Node's pool of threads, so that files and names are still served. */
const maxParallel = 2;
/** How many more may wait; about two seconds' worth. */
const maxWaiting = 64;

const tagLength = 32;
const saltLength = 16;
const phcPattern = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=1\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;
const hashArgon2 = promisify(argon2) as (algorithm: 'argon2id', parameters: Argon2Parameters) => Promise<Buffer>;

/** Hashes passwords with argon2id on Node's threads, a few at a time. */
export class PasswordHasher {
  readonly #cost: PasswordCost;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(cost: PasswordCost = defaultPasswordCost) {
    this.#cost = cost;
  }

  /** A hash in the PHC string form. Throws `rate_limited` when too many wait already. */
  async hash(password: string): Promise<string> {
    const salt = randomBytes(saltLength);
    const tag = await this.#compute(password, { salt, cost: this.#cost, length: tagLength });
    const { memoryKib, passes } = this.#cost;
    return `$argon2id$v=19$m=${memoryKib},t=${passes},p=1$${encode(salt)}$${encode(tag)}`;
  }

  /** Whether `password` made `hash`. Takes as long for one that has no hash. Throws `rate_limited` when too many wait already. */
  async verify(password: string, hash: string | null): Promise<boolean> {
    const known = hash === null ? undefined : parse(hash);
    const { salt, tag, cost } = known ?? { salt: noSalt, tag: noTag, cost: this.#cost };
    const computed = await this.#compute(password, { salt, cost, length: tag.length });
    return timingSafeEqual(computed, tag) && known !== undefined;
  }

  /** True for a hash of another cost than the present one: it is to be made anew when the password is at hand. */
  isOutdated(hash: string): boolean {
    const known = parse(hash)?.cost;
    return known?.memoryKib !== this.#cost.memoryKib || known.passes !== this.#cost.passes;
  }

  async #compute(
    password: string,
    { salt, cost, length }: { salt: Buffer; cost: PasswordCost; length: number },
  ): Promise<Buffer> {
    await this.#enter();
    try {
      return await hashArgon2('argon2id', {
        // One password, however the keyboard composes its characters.
        message: Buffer.from(password.normalize('NFKC')),
        nonce: salt,
        parallelism: 1,
        tagLength: length,
        memory: cost.memoryKib,
        passes: cost.passes,
      });
    } finally {
      const next = this.#waiting.shift();
      // The place goes over to who waited longest.
      if (next) next();
      else this.#running--;
    }
  }

  async #enter(): Promise<void> {
    if (this.#running < maxParallel) {
      this.#running++;
      return;
    }
    if (this.#waiting.length >= maxWaiting) {
      throw new AppError('rate_limited', 'too many people log in at this moment; try again', { retryAfterSec: 2 });
    }
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}

const noSalt = Buffer.alloc(saltLength);
const noTag = Buffer.alloc(tagLength);

function parse(hash: string): { salt: Buffer; tag: Buffer; cost: PasswordCost } | undefined {
  const [, memory, passes, salt, tag] = phcPattern.exec(hash) ?? [];
  if (salt === undefined || tag === undefined) return undefined;
  return {
    salt: Buffer.from(salt, 'base64'),
    tag: Buffer.from(tag, 'base64'),
    cost: { memoryKib: Number(memory), passes: Number(passes) },
  };
}

/** Base64 without padding, as the PHC string form has it. */
function encode(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('=', '');
}
