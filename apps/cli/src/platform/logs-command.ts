import { type FileHandle, open, stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { AppError } from '@aviary/core';
import { nodeErrorCode, systemClock } from '@aviary/service-kit';
import type { Command, CommandContext } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { LineTail, readableLogLine } from './log-lines.ts';
import { serviceLogFile } from './service-logs.ts';

const services = ['control-plane', 'host-agent'] as const;
const defaultLines = 200;
/** How often `-f` looks for more. */
const followMs = 300;

/** `aviary logs`: what the services of this machine's platform wrote. */
export const logsCommand: Command = {
  name: 'logs',
  summary: "Show what the platform's services on this machine wrote",
  args: [{ name: 'service', summary: `${services.join(' or ')}; both when absent`, isOptional: true }],
  flags: {
    follow: { type: 'boolean', short: 'f', summary: 'go on with what they write from now on' },
    lines: { type: 'integer', short: 'n', min: 1, summary: `so many of the last lines (default ${defaultLines})` },
  },
  examples: ['aviary logs', 'aviary logs host-agent -f'],
  async run(context, { args: [service], flags }) {
    if (service !== undefined && !services.some((known) => known === service))
      throw new UsageError(`there is no service ${JSON.stringify(service)}; there are ${services.join(' and ')}`);
    const chosen = service === undefined ? services : [service];
    const count = flags.integer('lines') ?? defaultLines;
    await Promise.all(
      chosen.map(async (name) => {
        await using log = await LogReader.open(serviceLogFile(context.config.dataDir, name));
        const tail = new LineTail(count);
        await log.readLines((line) => tail.add(line));
        for (const line of tail.lines()) print(context.output, name, line);
        if (flags.boolean('follow')) await follow(context, name, log);
      }),
    );
  },
};

async function follow({ output, signal }: CommandContext, service: string, log: LogReader): Promise<void> {
  for (;;) {
    await systemClock.sleep(followMs, signal);
    await log.readLines((line) => print(output, service, line));
  }
}

/** Reads a log that grows, and goes on with the next file when a new one was begun under its name. */
class LogReader implements AsyncDisposable {
  readonly #name: string;
  #handle: FileHandle;
  #at = 0;

  private constructor(name: string, handle: FileHandle) {
    this.#name = name;
    this.#handle = handle;
  }

  /** Throws `not_found` when there is no log, `forbidden` when this user may not read it. */
  static async open(name: string): Promise<LogReader> {
    return new LogReader(name, await openLog(name));
  }

  /** Calls `onLine` with each line that was written since the last call. */
  async readLines(onLine: (line: string) => void): Promise<void> {
    await this.#readRest(onLine);
    const [mine, present] = await Promise.all([this.#handle.stat(), stat(this.#name).catch(() => undefined)]);
    if (present === undefined || mine.ino === present.ino) return;
    const handle = await openLog(this.#name);
    await this.#handle.close();
    this.#handle = handle;
    this.#at = 0;
    await this.#readRest(onLine);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  async #readRest(onLine: (line: string) => void): Promise<void> {
    const stream = this.#handle.createReadStream({ start: this.#at, autoClose: false });
    for await (const line of createInterface({ input: stream })) onLine(line);
    this.#at += stream.bytesRead;
  }
}

async function openLog(name: string): Promise<FileHandle> {
  try {
    return await open(name);
  } catch (error) {
    const code = nodeErrorCode(error);
    if (code === 'ENOENT')
      throw new AppError('not_found', `there is no log in ${name}; 'aviary up' writes it, AVIARY_DATA_DIR says where`);
    if (code === 'EACCES') throw new AppError('forbidden', `${name} may be read by root only: try with sudo`);
    throw error;
  }
}

function print(output: CommandContext['output'], service: string, line: string): void {
  output.raw('stdout', Buffer.from(`${service.padEnd(13)} | ${output.isJson ? line : readableLogLine(line)}\n`));
}
