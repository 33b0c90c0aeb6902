import type { AviaryClient } from '@aviary/sdk';
import type { CliConfig } from './config.ts';
import { UsageError } from './exit-codes.ts';
import type { Output } from './output.ts';

/** Something that a word may be, and what is said about it. */
export interface Candidate {
  value: string;
  summary?: string;
}

/** What completing a word may use: no terminal, and a signal that comes soon. */
export type LookUpContext = Pick<CommandContext, 'config' | 'client' | 'signal'>;

/** What a value may be, for shells that complete it: a closed set, paths on this machine, or what is looked up, given the arguments before it. */
export type Values =
  | readonly string[]
  | 'paths'
  | ((context: LookUpContext, given: readonly string[]) => Promise<readonly Candidate[]>);

export interface Flag {
  type: 'string' | 'boolean' | 'integer';
  summary: string;
  short?: string;
  /** What stands for the value in the help text. */
  placeholder?: string;
  /** What the value may be, for completion. */
  values?: Values;
  /** May be given several times. */
  isMultiple?: boolean;
  /** Smallest integer allowed. Default 0. */
  min?: number;
}

export interface Argument {
  name: string;
  summary: string;
  isOptional?: boolean;
  /** Set on a last argument that may be given several times. */
  isRepeated?: boolean;
  /** What it may be, for completion. */
  values?: Values;
  /** Makes what is meant of what was typed, e.g. the id of a name. Throws when nothing, or more than one thing, is meant. */
  resolve?: (context: CommandContext, text: string) => Promise<string>;
}

/** Parsed flags: absent ones are undefined, booleans false, multiple ones []. */
export class Flags {
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }

  string(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === 'string' ? value : undefined;
  }

  integer(name: string): number | undefined {
    const value = this.#values[name];
    return typeof value === 'number' ? value : undefined;
  }

  boolean(name: string): boolean {
    return this.#values[name] === true;
  }

  strings(name: string): readonly string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? (value as string[]) : [];
  }
}

export interface Invocation {
  args: readonly string[];
  flags: Flags;
  /** What follows `--`: a guest command, passed on as it is. */
  rest: readonly string[];
}

/** The program's standard input, by what is read from it. */
export interface InputStream extends AsyncIterable<string | Uint8Array> {
  isTTY?: boolean;
  destroy(): unknown;
}

export interface CommandContext {
  config: CliConfig;
  output: Output;
  /** Aborts with the first SIGINT or SIGTERM; its reason is the signal's name. */
  signal: AbortSignal;
  /** Absent where there is none. */
  stdin: InputStream | undefined;
  /** Made on first use: not every command needs the API. */
  client(): AviaryClient;
}

/** One command as data: help, parsing and the reference are made from it. */
export interface Command {
  /** `noun verb`, or one word. */
  name: string;
  /** Other names that people type. */
  aliases?: readonly string[];
  summary: string;
  /** More than the summary, for the command's own help. */
  details?: string;
  args?: readonly Argument[];
  /** Set when a guest command follows `--`. */
  rest?: { summary: string };
  flags?: Readonly<Record<string, Flag>>;
  examples: readonly string[];
  run(context: CommandContext, invocation: Invocation): Promise<void>;
}

/** Flags that every command has. */
export const commonFlags = {
  json: { type: 'boolean', summary: 'print the result as one line of JSON' },
  help: { type: 'boolean', short: 'h', summary: 'show this help' },
} as const satisfies Record<string, Flag>;

/** The arguments as they are meant: see {@link Argument.resolve}. */
export async function resolveArguments(
  { args: wanted = [] }: Command,
  context: CommandContext,
  given: readonly string[],
): Promise<readonly string[]> {
  return await Promise.all(
    given.map(async (text, index) => {
      const { resolve } = wanted[Math.min(index, wanted.length - 1)] ?? {};
      return resolve ? await resolve(context, text) : text;
    }),
  );
}

/** Reads repeated `KEY=VALUE` flags. Throws UsageError. */
export function parsePairs(flag: string, pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new UsageError(`--${flag} must look like KEY=VALUE, not ${JSON.stringify(pair)}`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}
