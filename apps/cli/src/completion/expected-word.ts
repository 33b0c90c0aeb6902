import { type Candidate, type Command, commonFlags, type Flag, type Values } from '../command.ts';
import { wordsForHelp, wordsForVersion } from '../find-command.ts';

/** What may come where a word is being typed. */
export interface ExpectedWord {
  /** Commands and flags: known without asking. */
  words: readonly Candidate[];
  /** What else it may be. */
  values?: Values | undefined;
  /** What stands before such a value in the same word: `--flag=`. */
  prefix: string;
  /** Arguments of the command before this word. */
  given: readonly string[];
  /** Values that need not be offered again. */
  taken: readonly string[];
}

const nothing: ExpectedWord = { words: [], prefix: '', given: [], taken: [] };

type FlagTable = Readonly<Record<string, Flag>>;

/** What may come in place of `current`, of which any part is typed, after the words `before`. Never throws. */
export function expectedWord(commands: readonly Command[], before: readonly string[], current: string): ExpectedWord {
  // What follows belongs to a program in the guest.
  if (before.includes('--')) return nothing;
  const found = longestMatch(commands, before);
  if (!found)
    return { ...nothing, words: current.startsWith('-') ? flagsInPlace(before) : commandWords(commands, before) };
  const flags: FlagTable = { ...found.command.flags, ...commonFlags };
  const { given, seen, open } = readWords(flags, before.slice(found.length));
  if (open) return { ...nothing, values: open.values, given };
  const inline = /^(--([^=]+)=)/.exec(current);
  if (inline) return { ...nothing, values: flagNamed(flags, inline[2] ?? '')?.values, prefix: inline[1] ?? '', given };
  const isFirst = given.length === 0 && seen.size === 0;
  const more = isFirst ? commandWords(commands, before) : [];
  const arg = argumentAt(found.command, given.length);
  // Where an argument is due its flags stand in nobody's way unless they are asked for.
  const isFlagDue = current.startsWith('-') || !arg;
  return {
    words: [...more, ...(isFlagDue ? flagWords(found.command, flags, seen) : [])],
    values: current.startsWith('-') ? undefined : arg?.values,
    prefix: '',
    given,
    taken: arg?.isRepeated ? given : [],
  };
}

/** The words that may follow `before` in the names of commands, with the summaries of those that end there. */
export function commandWords(commands: readonly Command[], before: readonly string[]): Candidate[] {
  const found = new Map<string, Candidate>();
  for (const { words, summary } of namesOf(commands)) {
    const value = words[before.length];
    if (value === undefined || !before.every((word, index) => words[index] === word)) continue;
    const isEnd = words.length === before.length + 1;
    if (isEnd) found.set(value, { value, summary });
    else if (!found.has(value)) found.set(value, { value });
  }
  return [...found.values()];
}

function namesOf(commands: readonly Command[]) {
  return commands.flatMap((command) =>
    [command.name, ...(command.aliases ?? [])].map((name) => ({
      command,
      words: name.split(' '),
      summary: command.summary,
    })),
  );
}

function longestMatch(commands: readonly Command[], before: readonly string[]) {
  return namesOf(commands)
    .filter(({ words }) => words.every((word, index) => before[index] === word))
    .map(({ command, words: { length } }) => ({ command, length }))
    .toSorted((a, b) => b.length - a.length)[0];
}

/** Flags that are understood without a command. */
function flagsInPlace(before: readonly string[]): Candidate[] {
  const known = before.length === 0 ? [...wordsForHelp, ...wordsForVersion] : wordsForHelp;
  return known.filter((word) => word.startsWith('--')).map((value) => ({ value }));
}

/** Tells arguments from flags and their values; `open` is the flag whose value comes next. */
function readWords(flags: FlagTable, words: readonly string[]) {
  const given: string[] = [];
  const seen = new Set<string>();
  let open: Flag | undefined;
  for (const word of words) {
    if (open) open = undefined;
    else if (word.startsWith('--')) {
      const [name = '', value] = word.slice(2).split('=', 2);
      seen.add(name);
      const flag = flagNamed(flags, name);
      if (flag && flag.type !== 'boolean' && value === undefined) open = flag;
    } else if (word.startsWith('-') && word !== '-') open = readShorts(flags, word.slice(1), seen);
    else given.push(word);
  }
  return { given, seen, open };
}

/** Of `-abc`: which flags they are, and the last one where its value is the next word. */
function readShorts(flags: FlagTable, letters: string, seen: Set<string>): Flag | undefined {
  for (const [index, letter] of [...letters].entries()) {
    const [name, flag] = Object.entries(flags).find(([, { short }]) => short === letter) ?? [];
    if (name === undefined || !flag) return undefined;
    seen.add(name);
    if (flag.type !== 'boolean') return index === letters.length - 1 ? flag : undefined;
  }
  return undefined;
}

function flagNamed(flags: FlagTable, name: string): Flag | undefined {
  return Object.hasOwn(flags, name) ? flags[name] : undefined;
}

function argumentAt({ args = [] }: Command, index: number) {
  return args[index] ?? (args.at(-1)?.isRepeated ? args.at(-1) : undefined);
}

function flagWords({ rest }: Command, flags: FlagTable, seen: ReadonlySet<string>): Candidate[] {
  const open = Object.entries(flags).filter(([name, { isMultiple }]) => isMultiple || !seen.has(name));
  return [
    ...(rest ? [{ value: '--', summary: rest.summary }] : []),
    ...open.map(([name, { summary }]) => ({ value: `--${name}`, summary })),
  ];
}
