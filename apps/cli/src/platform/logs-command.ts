import { systemClock } from '@aviary/service-kit';
import type { Command, CommandContext } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { jsonLogLine, LineTail, readableLogLine, timeOfLogLine } from './log-lines.ts';
import { LogReader } from './log-reader.ts';
import { serviceLogFile } from './service-logs.ts';

const services = ['control-plane', 'host-agent'] as const;
const defaultLines = 200;
/** How often `-f` looks for more. */
const followMs = 300;

/** `aviary logs`: what the services of this machine's platform wrote. */
export const logsCommand: Command = {
  name: 'logs',
  summary: "Show what the platform's services on this machine wrote",
  args: [
    { name: 'service', summary: `${services.join(' or ')}; both when absent`, isOptional: true, values: services },
  ],
  flags: {
    follow: { type: 'boolean', short: 'f', summary: 'go on with what they write from now on' },
    lines: { type: 'integer', short: 'n', min: 1, summary: `so many of the last lines (default ${defaultLines})` },
  },
  details:
    'With --json each line is JSON of its own, with all that was written; otherwise errors are shown without where they arose.',
  examples: ['aviary logs', 'aviary logs host-agent -f', 'aviary logs --json | tail -1'],
  async run(context, { args: [service], flags }) {
    if (service !== undefined && !services.some((known) => known === service))
      throw new UsageError(`there is no service ${JSON.stringify(service)}; there are ${services.join(' and ')}`);
    const chosen = service === undefined ? services : [service];
    const count = flags.integer('lines') ?? defaultLines;
    await using opened = new AsyncDisposableStack();
    const logs: ServiceLog[] = [];
    for (const name of chosen) {
      const reader = opened.use(await LogReader.open(serviceLogFile(context.config.dataDir, name)));
      logs.push({ service: name, reader });
    }
    await showTails(context, logs, count);
    if (flags.boolean('follow')) await Promise.all(logs.map((log) => follow(context, log)));
  },
};

interface ServiceLog {
  service: string;
  reader: LogReader;
}

/** Prints the last lines of all services together, in the order in which they were written. */
async function showTails({ output }: CommandContext, logs: readonly ServiceLog[], count: number): Promise<void> {
  const lines: { service: string; line: string; atMs: number }[] = [];
  for (const { service, reader } of logs) {
    const tail = new LineTail(count);
    await reader.readLines((line) => tail.add(line));
    let atMs = 0;
    for (const line of tail.lines()) {
      // A line without a time belongs to the one before it.
      atMs = timeOfLogLine(line) ?? atMs;
      lines.push({ service, line, atMs });
    }
  }
  for (const { service, line } of lines.toSorted((a, b) => a.atMs - b.atMs).slice(-count)) print(output, service, line);
}

async function follow({ output, signal }: CommandContext, { service, reader }: ServiceLog): Promise<void> {
  for (;;) {
    await systemClock.sleep(followMs, signal);
    await reader.readLines((line) => print(output, service, line));
  }
}

function print(output: CommandContext['output'], service: string, line: string): void {
  const shown = output.isJson ? jsonLogLine(service, line) : `${service.padEnd(13)} | ${readableLogLine(line)}`;
  output.raw('stdout', Buffer.from(`${shown}\n`));
}
