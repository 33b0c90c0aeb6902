import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import type { CommandContext } from '../command.ts';
import { UsageError } from '../exit-codes.ts';

const maxInputBytes = 64 * 1024;

/**
 * Reads lines that a person types at a terminal, without showing what is secret, or that come through a pipe, in the same order. What is
 * secret is never an argument: those are seen by others and kept in a shell's history.
 */
export class Questions {
  readonly #context: CommandContext;
  #piped: string[] | undefined;

  constructor(context: CommandContext) {
    this.#context = context;
  }

  /** The line as it was given: spaces may belong to a password. Throws UsageError when nothing was given. */
  async ask(question: string, { isSecret = false }: { isSecret?: boolean } = {}): Promise<string> {
    const answer = this.#context.stdin?.isTTY ? await this.#askPerson(question, isSecret) : await this.#nextLine();
    if (answer === '')
      throw new UsageError(`${question.toLowerCase()} is missing; type it, or give it on standard input`);
    return answer;
  }

  /**
   * A password that is to be set: a person types it twice, since nobody sees what was typed. Throws UsageError when the two differ, or when
   * nothing was given.
   */
  async askNewPassword(question = 'New password'): Promise<string> {
    const password = await this.ask(question, { isSecret: true });
    if (!this.#context.stdin?.isTTY) return password;
    if ((await this.ask('The same again', { isSecret: true })) === password) return password;
    throw new UsageError('the two passwords are not the same; nothing was changed');
  }

  async #askPerson(question: string, isSecret: boolean): Promise<string> {
    const shown = isSecret ? new Writable({ write: (_chunk, _encoding, done) => done() }) : process.stderr;
    // The line editor draws its own prompt anew with each key; where it is muted the question is written beside it.
    if (isSecret) process.stderr.write(`${question}: `);
    const lines = createInterface({ input: process.stdin, output: shown, terminal: true });
    // A terminal that is read key by key makes no signal of Ctrl-C.
    lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
    try {
      return await lines.question(isSecret ? '' : `${question}: `, { signal: this.#context.signal });
    } finally {
      lines.close();
      if (isSecret) process.stderr.write('\n');
    }
  }

  async #nextLine(): Promise<string> {
    this.#piped ??= await this.#readPipe();
    return (this.#piped.shift() ?? '').replace(/\r$/, '');
  }

  async #readPipe(): Promise<string[]> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.#context.stdin ?? []) {
      chunks.push(Buffer.from(chunk));
      size += chunk.length;
      if (size > maxInputBytes) throw new UsageError('standard input is too long for what was asked');
    }
    return Buffer.concat(chunks).toString().split('\n');
  }
}
