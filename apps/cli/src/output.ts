import { styleText } from 'node:util';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

export interface OutputStream {
  write(data: string | Uint8Array): unknown;
  isTTY?: boolean;
  columns?: number;
  /** Of a stream that can fail: a pipe whose reader is gone. */
  on?(event: 'error', listener: (error: NodeJS.ErrnoException) => void): unknown;
}

export interface OutputOptions {
  stdout: OutputStream;
  stderr: OutputStream;
  isJson: boolean;
  isColorWanted: boolean;
}

/** Where a command speaks: results to standard output, progress and complaints to standard error. */
export class Output {
  readonly isJson: boolean;
  readonly #stdout: OutputStream;
  readonly #stderr: OutputStream;
  readonly #isColorWanted: boolean;
  #isProgressOpen = false;

  constructor({ stdout, stderr, isJson, isColorWanted }: OutputOptions) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.isJson = isJson;
    this.#isColorWanted = isColorWanted;
  }

  /** The command's result: `value` as one line of JSON with --json, else the lines that `render` makes of it. */
  result(value: unknown, render: () => string): void {
    this.#endProgress();
    this.#stdout.write(`${this.isJson ? JSON.stringify(value) : render()}\n`);
  }

  /** Bytes of a file or of a guest's command, unchanged. */
  raw(target: 'stdout' | 'stderr', data: Uint8Array): void {
    this.#endProgress();
    (target === 'stdout' ? this.#stdout : this.#stderr).write(data);
  }

  /** A line about what is going on; never part of the result. */
  note(text: string): void {
    this.#endProgress();
    this.#stderr.write(`${text}\n`);
  }

  /** Replaces the previous progress line on a terminal; elsewhere only `isLast` lines are written. */
  progress(text: string, isLast = false): void {
    if (!this.#stderr.isTTY) {
      if (isLast) this.#stderr.write(`${text}\n`);
      return;
    }
    const line = text.slice(0, Math.max(10, (this.#stderr.columns ?? 80) - 1));
    this.#stderr.write(`\r\u001b[2K${line}${isLast ? '\n' : ''}`);
    this.#isProgressOpen = !isLast;
  }

  /** Shows `text` with the seconds that `work` takes, on a terminal. `hint` joins it once that is longer than a moment. */
  async whileWaiting<T>({ text, hint }: { text: string; hint?: string }, work: () => Promise<T>): Promise<T> {
    const startedAtMs = performance.now();
    const show = () => {
      const seconds = Math.floor((performance.now() - startedAtMs) / 1_000);
      this.progress(
        [text, ...(hint && seconds >= 3 ? [hint] : []), ...(seconds > 0 ? [`${seconds} s`] : [])].join(' · '),
      );
    };
    show();
    const timer = setInterval(show, 1_000);
    try {
      return await work();
    } finally {
      clearInterval(timer);
    }
  }

  /** `text` in a colour where standard error is a terminal that wants one. */
  paint(style: Style, text: string, target: 'stdout' | 'stderr' = 'stderr'): string {
    const stream = target === 'stdout' ? this.#stdout : this.#stderr;
    return this.#isColorWanted && stream.isTTY ? styleText(style, text, { validateStream: false }) : text;
  }

  #endProgress(): void {
    if (!this.#isProgressOpen) return;
    this.#isProgressOpen = false;
    this.#stderr.write('\r\u001b[2K');
  }
}

/** One thing, one field a line; fields without a value are left out. */
export function renderFields(fields: object): string {
  const rows = Object.entries(fields)
    .filter(([, value]) => value !== null && value !== undefined && value !== '')
    .map(([name, value]) => [`${name}:`, typeof value === 'object' ? JSON.stringify(value) : String(value)]);
  return renderTable(rows[0] ?? [], rows.slice(1));
}

/**
 * Columns aligned under their headings, two spaces apart. What is in them is often others' (names that people chose, files of a guest): a
 * character that would steer the terminal, break the line or turn its direction is shown by its number.
 */
export function renderTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows].map((line) => line.map(showUnreadable));
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => (column === line.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function showUnreadable(cell: string): string {
  return cell.replaceAll(
    /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}
