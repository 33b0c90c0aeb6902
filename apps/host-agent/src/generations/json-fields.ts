import { AppError } from '@aviary/core';

/** Reads one JSON object field by field; every complaint names the file and the field. Throws `integrity`. */
export class JsonFields {
  readonly #what: string;
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fault(what, 'is not an object');
    this.#what = what;
    this.#fields = value as Record<string, unknown>;
  }

  string(name: string, pattern?: RegExp): string {
    const value = this.#fields[name];
    if (typeof value !== 'string') throw this.#fault(name, 'is not a string');
    if (pattern && !pattern.test(value)) throw this.#fault(name, 'has an unexpected form');
    return value;
  }

  oneOf<const T extends string>(name: string, allowed: readonly T[]): T {
    const value = this.string(name);
    const found = allowed.find((one) => one === value);
    if (found === undefined) throw this.#fault(name, `is not one of ${allowed.join(', ')}`);
    return found;
  }

  /** A whole number from `min` to `max`. */
  integer(name: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
    const value = this.#fields[name];
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
      throw this.#fault(name, `is not a whole number from ${min} to ${max}`);
    return value;
  }

  boolean(name: string): boolean {
    const value = this.#fields[name];
    if (typeof value !== 'boolean') throw this.#fault(name, 'is not true or false');
    return value;
  }

  object(name: string): JsonFields {
    return new JsonFields(this.#fields[name], `${this.#what}.${name}`);
  }

  /** The fields of an object whose keys are data. */
  record<T>(name: string, read: (value: unknown, what: string) => T): Record<string, T> {
    const inner = this.object(name);
    return Object.fromEntries(
      Object.entries(inner.#fields).map(([key, value]) => [key, read(value, `${this.#what}.${name}.${key}`)]),
    );
  }

  list<T>(name: string, maxLength: number, read: (value: unknown, what: string) => T): T[] {
    const value = this.#fields[name];
    if (!Array.isArray(value) || value.length > maxLength)
      throw this.#fault(name, `is not a list of at most ${maxLength}`);
    return value.map((item, index) => read(item, `${this.#what}.${name}[${index}]`));
  }

  /** What `read` makes of the field, or undefined when it is absent or null. */
  optional<T>(name: string, read: () => T): T | undefined {
    const value = this.#fields[name];
    return value === undefined || value === null ? undefined : read();
  }

  #fault(name: string, problem: string): AppError {
    return fault(`${this.#what}.${name}`, problem);
  }
}

function fault(field: string, problem: string): AppError {
  return new AppError('integrity', `${field} ${problem}`, { details: { field } });
}
