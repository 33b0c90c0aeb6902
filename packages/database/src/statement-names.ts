/** From this use on a statement has a name: what is asked once or twice is not worth one. */
const namedFrom = 3;
/** Each connection keeps what has a name. A list of another length makes another text, so there must be an end. */
const maxNames = 500;
const maxUnnamed = 2_000;
/** A partial index as the arbiter: which one it is must be seen from constants, and the plan of a statement with a name has none after a while. */
const needsConstants = /\bon conflict\b.*\bwhere\b/is;

/** Gives names to the statements that are asked again and again: PostgreSQL then parses and plans each once on each connection. */
export class StatementNames {
  readonly #names = new Map<string, string>();
  readonly #uses = new Map<string, number>();

  /** The name of `text`, or undefined for one that has none. */
  nameOf(text: string): string | undefined {
    const known = this.#names.get(text);
    if (known !== undefined || this.#names.size >= maxNames) return known;
    if (needsConstants.test(text)) return undefined;
    const uses = (this.#uses.get(text) ?? 0) + 1;
    if (uses < namedFrom) {
      if (this.#uses.size >= maxUnnamed) this.#uses.clear();
      this.#uses.set(text, uses);
      return undefined;
    }
    this.#uses.delete(text);
    const name = `aviary_${this.#names.size + 1}`;
    this.#names.set(text, name);
    return name;
  }
}
