import type { Outcome, Person } from './person.ts';

/** What is promised of a command. */
export interface Promised {
  /** Its exit code. Default 0. */
  code?: number;
  /** What it prints, on either stream. */
  says?: readonly string[];
  /** What it does not print. */
  hides?: readonly string[];
}

interface Options extends Promised {
  /** Given on standard input, and what to call it where the command is shown. */
  stdin?: { text: string; is: string };
  /** Instead of what the person has logged in with, and what to call it. */
  key?: { text: string; is: string };
}

/** Writes a line of the tour. */
export type Tell = (line: string) => void;

/** Runs a command as somebody types it, shows it with what came back, and holds that against what was promised. Throws when it is not so. */
export async function act(
  { person, tell }: { person: Pick<Person, 'name' | 'run'>; tell: Tell },
  argv: readonly string[],
  { stdin, key, ...promised }: Options = {},
): Promise<Outcome> {
  const variable = key ? `AVIARY_API_KEY=${key.is} ` : '';
  const given = stdin ? ` < ${stdin.is}` : '';
  tell(`${person.name}$ ${variable}aviary ${argv.map(quote).join(' ')}${given}`);
  const outcome = await person.run(argv, {
    ...(stdin ? { stdin: `${stdin.text}\n` } : {}),
    ...(key ? { env: { AVIARY_API_KEY: key.text } } : {}),
  });
  for (const line of printed(outcome).trimEnd().split('\n')) tell(`    ${line}`);
  if (outcome.code !== 0) tell(`    (exit code ${outcome.code})`);
  const broken = findBroken(outcome, promised);
  if (broken) throw new Error(`not as promised: '${person.name}$ aviary ${argv.join(' ')}' ${broken}`);
  return outcome;
}

/** How the outcome differs from what was promised; undefined when it does not. */
function findBroken(outcome: Outcome, { code = 0, says = [], hides = [] }: Promised): string | undefined {
  if (outcome.code !== code) return `ended with ${outcome.code} instead of ${code}`;
  const missing = says.find((part) => !printed(outcome).includes(part));
  if (missing !== undefined) return `did not say ${JSON.stringify(missing)}`;
  const shown = hides.find((part) => printed(outcome).includes(part));
  return shown === undefined ? undefined : `showed ${JSON.stringify(shown)}`;
}

function printed({ stdout, stderr }: Outcome): string {
  return `${stdout}${stderr}`;
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
