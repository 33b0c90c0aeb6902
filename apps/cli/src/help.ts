import { type Command, commonFlags, type Flag } from './command.ts';
import { renderTable } from './output.ts';

/** All commands with their summaries. */
export function renderOverview(commands: readonly Command[]): string {
  const rows = commands.map((command) => [`  ${command.name}`, command.summary]);
  return [
    'aviary: run code nobody has read, in microVMs',
    '',
    'Usage: aviary COMMAND [ARGUMENTS] [FLAGS]',
    '',
    renderTable(['Commands:', ''], rows),
    '',
    `Every command takes --json and --help. 'aviary help COMMAND' tells more.`,
  ].join('\n');
}

/** One command: usage, arguments, flags, examples. */
export function renderHelp(command: Command): string {
  const args = command.args ?? [];
  const usage = [
    'aviary',
    command.name,
    ...args.map((arg) => {
      const name = `${arg.name.toUpperCase()}${arg.isRepeated ? '…' : ''}`;
      return arg.isOptional ? `[${name}]` : name;
    }),
    '[FLAGS]',
    ...(command.rest ? ['-- COMMAND [ARG…]'] : []),
  ].join(' ');
  const argRows = [
    ...args.map((arg) => [`  ${arg.name.toUpperCase()}`, arg.summary]),
    ...(command.rest ? [['  COMMAND', command.rest.summary]] : []),
  ];
  const flags: [string, Flag][] = Object.entries({ ...command.flags, ...commonFlags });
  return [
    command.summary,
    '',
    `Usage: ${usage}`,
    ...(argRows.length ? ['', renderTable(['Arguments:', ''], argRows)] : []),
    '',
    renderTable(
      ['Flags:', ''],
      flags.map(([name, flag]) => [`  ${flagLabel(name, flag)}`, flag.summary]),
    ),
    ...(command.details ? ['', command.details] : []),
    ...(command.aliases ? ['', `Also: ${command.aliases.map((name) => `aviary ${name}`).join(', ')}`] : []),
    '',
    'Examples:',
    ...command.examples.map((example) => `  ${example}`),
  ].join('\n');
}

function flagLabel(name: string, flag: Flag): string {
  const value = flag.type === 'boolean' ? '' : ` ${flag.placeholder ?? (flag.type === 'integer' ? 'N' : 'TEXT')}`;
  return `${flag.short ? `-${flag.short}, ` : ''}--${name}${value}`;
}
