import { type ChildProcess, spawn } from 'node:child_process';
import { must } from '@aviary/core';
import { expect } from 'vitest';

/** What a shell is told to print around the line that is being typed, when Ctrl-O is pressed. */
export const marks = { start: '<[', end: ']>', prompt: '@ready@' };

/** For tests: an interactive shell on a terminal of its own, to which somebody types. */
export class TestTerminal implements AsyncDisposable {
  readonly #child: ChildProcess;
  #screen = '';

  constructor(command: string, env: Record<string, string>) {
    // util-linux's script is there wherever bash is, and is the smallest terminal to be had.
    this.#child = spawn('script', ['-qfc', command, '/dev/null'], {
      env: { PATH: process.env['PATH'], TERM: 'dumb', LANG: 'C.UTF-8', PS1: marks.prompt, ...env },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    must(this.#child.stdout, 'a pipe')
      .setEncoding('utf8')
      .on('data', (text: string) => {
        this.#screen += text;
      });
  }

  /** Resolves when the shell has shown its prompt. */
  async becomesReady(): Promise<void> {
    await this.#wait(() => this.#screen.includes(marks.prompt));
  }

  /** Runs a line when the shell is ready for it. */
  async run(line: string): Promise<void> {
    await this.becomesReady();
    this.#screen = '';
    this.#type(`${line}\r`);
    await this.becomesReady();
  }

  /** What the line is after `keys`; it is empty again afterwards. */
  async lineAfter(keys: string): Promise<string> {
    this.#screen = '';
    this.#type(`${keys}\u000f`);
    await this.#wait(() => this.#screen.includes(marks.end));
    const line = this.#screen.slice(this.#screen.indexOf(marks.start) + marks.start.length).split(marks.end, 1)[0];
    this.#type('\u0005\u0015');
    return line ?? '';
  }

  #type(text: string): void {
    must(this.#child.stdin, 'a pipe').write(text);
  }

  async #wait(isDone: () => boolean): Promise<void> {
    await expect.poll(isDone, { message: 'the shell answers', timeout: 60_000, interval: 20 }).toBe(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }
}
