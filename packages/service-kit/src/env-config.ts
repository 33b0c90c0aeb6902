import { AppError } from '@aviary/core';

/** Reads settings from an environment, naming the variable in every complaint. Only `config.ts` files use it. */
export class EnvReader {
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#env = env;
  }

  /** The value, or `fallback`; an empty string counts as unset. Throws when unset and there is no fallback. */
  string(name: string, fallback?: string): string {
    const value = this.#env[name] || fallback;
    if (value === undefined) throw new AppError('invalid_request', `${name} is not set`, { details: { field: name } });
    return value;
  }

  optional(name: string): string | undefined {
    return this.#env[name] || undefined;
  }

  /** An integer within [min, max]. */
  integer(name: string, { fallback, ...range }: { fallback: number; min: number; max: number }): number {
    return this.optionalInteger(name, range) ?? fallback;
  }

  /** An integer within [min, max], or undefined when it is not set. */
  optionalInteger(name: string, { min, max }: { min: number; max: number }): number | undefined {
    const text = this.#env[name];
    if (!text) return undefined;
    const value = Number(text);
    if (!Number.isInteger(value) || value < min || value > max) {
      throw new AppError(
        'invalid_request',
        `${name} must be a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`,
        {
          details: { field: name },
        },
      );
    }
    return value;
  }

  boolean(name: string, fallback = false): boolean {
    const text = this.#env[name];
    if (!text) return fallback;
    if (['1', 'true', 'yes'].includes(text)) return true;
    if (['0', 'false', 'no'].includes(text)) return false;
    throw new AppError('invalid_request', `${name} must be 1 or 0, not ${JSON.stringify(text)}`, {
      details: { field: name },
    });
  }
}
