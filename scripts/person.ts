import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';

const program = path.join(import.meta.dirname, '../apps/cli/src/main.ts');

/** What a command ended with. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Somebody at a terminal, with settings and a log-in of their own. */
export class Person {
  readonly name: string;
  readonly email: string;
  readonly #env: Record<string, string>;
  readonly #signal: AbortSignal;

  private constructor(
    { name, email }: { name: string; email: string },
    env: Record<string, string>,
    signal: AbortSignal,
  ) {
    this.name = name;
    this.email = email;
    this.#env = env;
    this.#signal = signal;
  }

  /** Somebody new, who has a directory of their own in `directory` and talks to the platform at `apiUrl`. */
  static async create(
    { name, email }: { name: string; email: string },
    { directory, apiUrl, signal }: { directory: string; apiUrl: string; signal: AbortSignal },
  ): Promise<Person> {
    const home = path.join(directory, name);
    await mkdir(home);
    const { PATH = '', NODE_COMPILE_CACHE = path.join(directory, 'compiled') } = process.env;
    // The data directory is no platform's: nothing is done by the key that one has left there.
    const env = { PATH, NODE_COMPILE_CACHE, HOME: home, AVIARY_API_URL: apiUrl, AVIARY_DATA_DIR: home, NO_COLOR: '1' };
    return new Person({ name, email }, env, signal);
  }

  /** Runs the command line program to its end. Throws the signal's reason when interrupted. */
  async run(argv: readonly string[], { stdin = '', env = {} }: { stdin?: string; env?: Record<string, string> } = {}) {
    const options = { '--disable-warning': 'ExperimentalWarning' };
    const flags = Object.entries(options).map(([name, value]) => `${name}=${value}`);
    const child = spawn(process.execPath, [...flags, program, ...argv], {
      env: { ...this.#env, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
      signal: this.#signal,
    });
    // One that reads nothing closes it: no matter.
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    const closed = new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => resolve(code ?? -1));
    });
    const [code, stdout, stderr] = await Promise.all([closed, text(child.stdout), text(child.stderr)]);
    return { code, stdout, stderr } satisfies Outcome;
  }
}
