import { closest } from './closest.ts';
import type { Command } from './command.ts';
import { UsageError } from './exit-codes.ts';

/** What may stand in place of a command and asks for help. */
export const wordsForHelp = ['--help', '-h', 'help'];
/** What may stand in place of a command and asks for the version. */
export const wordsForVersion = ['--version', '-v'];

/** The command that `argv` begins with, and what is left of `argv` for it. Throws UsageError, with what may have been meant. */
export function findCommand(
  commands: readonly Command[],
  argv: readonly string[],
): { command: Command; argv: readonly string[] } {
  const words = asCommand(commands, argv);
  const matches = commands
    .flatMap((command) =>
      [command.name, ...(command.aliases ?? [])].map((name) => ({ command, words: name.split(' ') })),
    )
    .filter((known) => known.words.every((word, index) => words[index] === word))
    .sort((a, b) => b.words.length - a.words.length);
  const best = matches[0];
  if (!best) throw noCommand(commands, argv);
  return { command: best.command, argv: words.slice(best.words.length) };
}

/** What is asked for by a flag or by nothing at all, as the command that it is; `sandbox --help` is `help sandbox`. */
function asCommand(commands: readonly Command[], argv: readonly string[]): readonly string[] {
  const [first, second = '', ...others] = argv;
  if (first === undefined) return ['help'];
  if (wordsForHelp.includes(first)) return ['help', ...argv.slice(1)];
  if (wordsForVersion.includes(first)) return ['version', ...argv.slice(1)];
  if (first === '--json') return ['help', ...argv];
  if (verbsOf(commands, first).length > 0 && wordsForHelp.includes(second)) return ['help', first, ...others];
  return argv;
}

/** That there is no command of the words in `argv`, and what may have been meant. */
export function noCommand(commands: readonly Command[], argv: readonly string[]): UsageError {
  const [first = '', second] = argv;
  const verbs = verbsOf(commands, first);
  if (verbs.length > 0) {
    if (second === undefined) return new UsageError(`'aviary ${first}' needs one of: ${verbs.join(', ')}`);
    const meant = closest(second, verbs);
    const hint = meant === undefined ? `'aviary ${first}' has ${verbs.join(', ')}` : didYouMean(`${first} ${meant}`);
    return new UsageError(`there is no command ${JSON.stringify(`${first} ${second}`)}; ${hint}`);
  }
  const names = commands.flatMap((command) => [command.name, ...(command.aliases ?? [])]);
  // Whoever leaves the noun out has said which command it is all the same.
  const withNoun = commands.find(({ name }) => name.split(' ')[1] === first)?.name;
  const meant = withNoun ?? closest(`${first} ${second ?? ''}`.trim(), names) ?? closest(first, names);
  const hint = meant === undefined ? "'aviary help' lists them" : didYouMean(meant);
  return new UsageError(`there is no command ${JSON.stringify(first)}; ${hint}`);
}

function didYouMean(name: string): string {
  return `did you mean 'aviary ${name}'?`;
}

/** The second words of the commands that begin with `noun`. */
function verbsOf(commands: readonly Command[], noun: string): string[] {
  return commands.flatMap(({ name }) => (name.startsWith(`${noun} `) ? [name.slice(noun.length + 1)] : []));
}
