import { parseArgs } from 'node:util';
import { closest } from './closest.ts';
import { type Command, commonFlags, type Flag, Flags, type Invocation } from './command.ts';
import { UsageError } from './exit-codes.ts';

type FlagTable = Readonly<Record<string, Flag>>;

/** Reads a command's arguments and flags. Throws UsageError. */
export function parseInvocation(command: Command, argv: readonly string[]): Invocation {
  const separator = argv.indexOf('--');
  const own = separator < 0 ? argv : argv.slice(0, separator);
  const rest = separator < 0 ? [] : argv.slice(separator + 1);
  if (rest.length > 0 && !command.rest) throw new UsageError(`'aviary ${command.name}' takes nothing after --`);
  const { args, values } = parseOwn(command, own);
  if (values['help'] !== true) {
    checkArguments(command, args);
    if (command.rest && rest.length === 0) throw new UsageError(`'aviary ${command.name}' needs a command after --`);
  }
  return { args, flags: new Flags(values), rest };
}

/** Reads what is the program's own. Node's parser finds the words; which of them are right is told here, in the program's words. */
function parseOwn(command: Command, argv: readonly string[]): { args: string[]; values: Record<string, unknown> } {
  const flags: FlagTable = { ...command.flags, ...commonFlags };
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, { type, short }]) => [
      name,
      { type: type === 'boolean' ? ('boolean' as const) : ('string' as const), ...(short ? { short } : {}) },
    ]),
  );
  const { tokens } = parseArgs({ args: [...argv], options, allowPositionals: true, strict: false, tokens: true });
  const args: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, { isMultiple }] of Object.entries(flags)) if (isMultiple) values[name] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') args.push(token.value);
    if (token.kind !== 'option') continue;
    const flag = Object.hasOwn(flags, token.name) ? flags[token.name] : undefined;
    if (!flag) {
      // A guest's command without -- before it: its flags are not what is wrong.
      if (command.rest) refuseExtra(command, args);
      throw unknownFlag(command, flags, token);
    }
    const value = readValue(flag, token);
    if (flag.isMultiple) (values[token.name] as unknown[]).push(value);
    else values[token.name] = value;
  }
  return { args, values };
}

interface GivenFlag {
  name: string;
  rawName: string;
  value?: string | undefined;
  inlineValue?: boolean | undefined;
}

function unknownFlag(command: Command, flags: FlagTable, { name, rawName }: GivenFlag): UsageError {
  const meant = rawName.startsWith('--') ? closest(name, Object.keys(flags)) : undefined;
  const hint = meant === undefined ? `'aviary ${command.name} --help' lists them` : `did you mean --${meant}?`;
  return new UsageError(`there is no flag ${rawName}; ${hint}`);
}

function readValue(flag: Flag, { name, value, inlineValue }: GivenFlag): unknown {
  if (flag.type === 'boolean') {
    if (value === undefined) return true;
    throw new UsageError(`--${name} takes no value, not ${JSON.stringify(value)}`);
  }
  if (value === undefined) throw new UsageError(`--${name} needs a value: ${flag.summary}`);
  if (flag.type === 'integer') return readInteger(flag, { name, value });
  // Most likely the next flag, and the value was left out.
  if (value.startsWith('--') && !inlineValue)
    throw new UsageError(`--${name} needs a value; one that begins with -- is given as --${name}=${value}`);
  return value;
}

/** What the numbers of flags with these placeholders count. */
const units: Readonly<Record<string, string>> = { MIB: 'MiB', SEC: 'seconds' };

function readInteger(flag: Flag, { name, value }: { name: string; value: string }): number {
  const number = Number(value);
  const min = flag.min ?? 0;
  if (Number.isSafeInteger(number) && number >= min && value.trim() !== '') return number;
  const unit = units[flag.placeholder ?? ''];
  const wanted =
    unit === undefined ? `a whole number of at least ${min}` : `a whole number of ${unit}, at least ${min}`;
  throw new UsageError(`--${name} must be ${wanted}, not ${JSON.stringify(value)}`);
}

function checkArguments(command: Command, given: readonly string[]): void {
  const missing = command.args?.slice(given.length).find((arg) => !arg.isOptional);
  if (missing) throw new UsageError(`'aviary ${command.name}' needs ${missing.name.toUpperCase()}: ${missing.summary}`);
  refuseExtra(command, given);
}

function refuseExtra(command: Command, given: readonly string[]): void {
  const args = command.args ?? [];
  const extra = given[args.length];
  if (extra === undefined || args.at(-1)?.isRepeated) return;
  const hint = command.rest ? `; put the guest's command after --` : '';
  throw new UsageError(`'aviary ${command.name}' does not know what to do with ${JSON.stringify(extra)}${hint}`);
}
