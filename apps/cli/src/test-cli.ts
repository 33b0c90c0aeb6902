import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { must } from '@aviary/core';
import { FakeApi, fakeApiKey } from './fake-api.ts';
import { runCli } from './run-cli.ts';

const main = path.join(import.meta.dirname, 'main.ts');

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** The program with an API of its own, for one test. */
export class TestCli implements AsyncDisposable {
  readonly api: FakeApi;
  /** Its data directory. */
  readonly directory: string;

  private constructor(api: FakeApi, directory: string) {
    this.api = api;
    this.directory = directory;
  }

  static async open(): Promise<TestCli> {
    return new TestCli(await FakeApi.start(), await mkdtemp(path.join(tmpdir(), 'aviary-cli-')));
  }

  /** Runs it to its end in this process: far quicker, for what needs neither signals nor streams of its own. */
  async run(...argv: string[]): Promise<Outcome> {
    const written = { stdout: '', stderr: '' };
    const stream = (name: keyof typeof written) => ({
      write: (data: string | Uint8Array) => {
        written[name] += typeof data === 'string' ? data : Buffer.from(data).toString();
      },
    });
    const code = await runCli({ argv, env: this.#env, stdout: stream('stdout'), stderr: stream('stderr') });
    return { code, ...written };
  }

  /** Starts it as a process of its own. */
  start(
    args: readonly string[],
    env: Record<string, string> = {},
    stdin: 'ignore' | 'pipe' = 'ignore',
  ): { child: ChildProcess; ended: Promise<Outcome> } {
    const child = spawn(process.execPath, [main, ...args], {
      stdio: [stdin, 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'], ...this.#env, ...env },
    });
    const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
    const ended = Promise.all([closed, text(must(child.stdout, 'a pipe')), text(must(child.stderr, 'a pipe'))]).then(
      ([code, stdout, stderr]) => ({ code, stdout, stderr }),
    );
    return { child, ended };
  }

  get #env(): Record<string, string> {
    return { AVIARY_API_URL: this.api.url, AVIARY_API_KEY: fakeApiKey, AVIARY_DATA_DIR: this.directory };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.api[Symbol.asyncDispose]();
    await rm(this.directory, { recursive: true });
  }
}

/** As frames carry bytes. */
export const base64 = (content: string) => Buffer.from(content).toString('base64');
