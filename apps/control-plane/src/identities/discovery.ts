import type { Logger } from '@aviary/service-kit';
import type { Configuration } from 'openid-client';
import { type ProviderTimes, unavailable } from './identity-provider.ts';
import { faultDetail } from './sign-in-fault.ts';

/** Providers change their keys and endpoints rarely, and the library looks for new keys by itself. */
const freshMs = 3_600_000;
/** After a failure nobody asks again for so long: neither of those who wait nor of the provider more is asked. */
const restMs = 5_000;

/** What a provider says of itself, asked for once for all who sign in; while it cannot be asked again, what it said last. */
export class Discovery {
  readonly #name: string;
  readonly #discover: () => Promise<Configuration>;
  readonly #clock: ProviderTimes['clock'];
  readonly #logger: Logger;
  #known: Configuration | undefined;
  #askAgainAt = 0;
  #asking: Promise<Configuration> | undefined;

  constructor(
    { clock, logger }: { clock: ProviderTimes['clock']; logger: Logger },
    { name, discover }: { name: string; discover: () => Promise<Configuration> },
  ) {
    this.#clock = clock;
    this.#logger = logger;
    this.#name = name;
    this.#discover = discover;
  }

  /** Throws `provider_unavailable`. */
  async get(): Promise<Configuration> {
    const waitMs = this.#askAgainAt - this.#clock.now();
    if (waitMs <= 0) {
      this.#asking ??= this.#ask();
      return await this.#asking;
    }
    if (this.#known) return this.#known;
    throw unavailable(this.#name, { retryAfterSec: Math.ceil(waitMs / 1000) });
  }

  async #ask(): Promise<Configuration> {
    try {
      this.#known = await this.#discover();
      this.#askAgainAt = this.#clock.now() + freshMs;
      return this.#known;
    } catch (cause) {
      this.#askAgainAt = this.#clock.now() + restMs;
      const detail = faultDetail(cause);
      this.#logger.warn({ provider: this.#name, detail }, 'a sign-in provider cannot be asked what it is');
      if (this.#known) return this.#known;
      throw unavailable(this.#name, { retryAfterSec: restMs / 1000, cause });
    } finally {
      this.#asking = undefined;
    }
  }
}
