import { type ChildProcess, fork } from 'node:child_process';
import { withDeadline } from '@aviary/service-kit';

/** What a child can be asked, by name: one plain value in, one out. */
export type ChildTasks = Record<string, (input: never) => Promise<unknown>>;

interface Question {
  id: number;
  name: string;
  input: unknown;
}
interface Reply {
  id: number;
  output?: unknown;
  error?: string;
}

/** A child that is asked what its tasks are. */
export interface Child<T extends ChildTasks> extends AsyncDisposable {
  ask<N extends keyof T & string>(name: N, input: Parameters<T[N]>[0]): Promise<Awaited<ReturnType<T[N]>>>;
}

/** Longest wait for an answer. */
const answerTimeoutMs = 120_000;

/** Starts `file` as a process of its own. It ends with this one. */
export function startChild<T extends ChildTasks>(
  file: string,
  { env = {}, execArgv = [] }: { env?: Record<string, string>; execArgv?: string[] } = {},
): Child<T> {
  const child = fork(file, { env: { ...process.env, ...env }, execArgv, serialization: 'advanced' });
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  child.on('message', ({ id, output, error }: Reply) => {
    const entry = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) entry?.resolve(output);
    else entry?.reject(new Error(error));
  });
  child.on('exit', (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`${file} ended with ${code}`));
  });
  let count = 0;
  return {
    ask: (name, input) =>
      withDeadline({ what: `${name} of ${file}`, timeoutMs: answerTimeoutMs }, () => {
        const id = ++count;
        const { promise, resolve, reject } = Promise.withResolvers<unknown>();
        waiting.set(id, { resolve, reject });
        child.send({ id, name, input } satisfies Question);
        return promise as Promise<never>;
      }),
    [Symbol.asyncDispose]: () => end(child),
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  // It may have something to write: a profile.
  child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await ended;
  clearTimeout(timer);
}

/** In a child: answers what the parent asks, and ends when that is gone. */
export function answerParent(tasks: ChildTasks): void {
  process.on('message', ({ id, name, input }: Question) => {
    const answer = (reply: Omit<Reply, 'id'>) => void process.send?.({ id, ...reply });
    const task = tasks[name];
    if (!task) return answer({ error: `there is no task ${name}` });
    // Who asks is typed by the same table.
    task(input as never).then(
      (output) => answer({ output }),
      (error: unknown) => answer({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  });
  process.once('disconnect', () => process.exit(0));
}
