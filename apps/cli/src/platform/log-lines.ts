import type { Readable } from 'node:stream';

/** Longest line passed on; the rest of a longer one follows as lines of its own. */
const maxLineLength = 16_384;

/** Calls `onLine` with each line of a stream, and with an unfinished last one at its end. */
export function forEachLine(stream: Readable, onLine: (line: string) => void): void {
  let pending = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (pending + text).split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) onLine(line);
    for (; pending.length > maxLineLength; pending = pending.slice(maxLineLength)) {
      onLine(pending.slice(0, maxLineLength));
    }
  });
  stream.on('end', () => {
    if (pending !== '') onLine(pending);
  });
}

/** The last lines of something long. */
export class LineTail {
  readonly #lines: string[] = [];
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > this.#limit) this.#lines.shift();
  }

  lines(): readonly string[] {
    return this.#lines;
  }
}

const levelNames: Record<number, string> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
  60: 'fatal',
};
/** Fields that say nothing on one machine, where each line carries its program's name already. */
const hiddenFields = new Set(['level', 'time', 'name', 'pid', 'hostname', 'msg']);

/** A JSON log line as `level message key=value …`; anything else unchanged. */
export function readableLogLine(line: string): string {
  const entry = parseEntry(line);
  const level = levelNames[Number(entry?.['level'])];
  if (!entry || !level) return line;
  const fields = Object.entries(entry)
    .filter(([name]) => !hiddenFields.has(name))
    .map(([name, value]) => `${name}=${readableValue(value, level)}`);
  return [level, entry['msg'], ...fields].filter(Boolean).join(' ');
}

/** The first line of a text. Of an error what happened; where in the program is said of those that are nobody's mistake. */
function readableValue(value: unknown, level: string): string {
  if (typeof value === 'object' && value !== null) {
    const { message, stack } = value as { message?: unknown; stack?: unknown };
    if (typeof stack === 'string' && (level === 'error' || level === 'fatal')) return stack;
    if (typeof message === 'string') return firstLine(message);
  }
  return typeof value === 'string' ? firstLine(value) : JSON.stringify(value);
}

function firstLine(text: string): string {
  const [first = '', ...more] = text.split('\n');
  return more.length > 0 ? `${first} …` : first;
}

/** A log line as one line of JSON that names its service, whether the service wrote JSON or not. */
export function jsonLogLine(service: string, line: string): string {
  return JSON.stringify({ service, ...(parseEntry(line) ?? { msg: line }) });
}

/** When a JSON log line was written, in Unix milliseconds; undefined for anything else. */
export function timeOfLogLine(line: string): number | undefined {
  const time = parseEntry(line)?.['time'];
  return typeof time === 'number' ? time : undefined;
}

function parseEntry(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
