import { type ChildProcess, spawn } from 'node:child_process';
import { AppError, errorText } from '@aviary/core';
import { backoffMs, type Clock, systemClock, waitFor } from '@aviary/service-kit';
import { forEachLine, LineTail } from './log-lines.ts';

/** A program to keep running. */
export interface Service {
  name: string;
  file: string;
  args: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  /** True once it does its work. Asked again until then; a throw counts as false. */
  isReady: (signal: AbortSignal) => Promise<boolean>;
  readyTimeoutMs: number;
  /**
   * True while it answers, whatever it answers: one that hangs is restarted, one that lacks something is not. Asked from when it is ready. A
   * throw counts as false, and so does no answer within `answerTimeoutMs`.
   */
  isAlive: (signal: AbortSignal) => Promise<boolean>;
  /** From SIGTERM to SIGKILL. */
  stopTimeoutMs: number;
}

export interface SupervisorOptions {
  /** Each line that a service writes, and what the supervisor does about the service. */
  onLine: (service: string, line: string) => void;
  /** First delay before a restart; later ones double, up to a minute. Default 500. */
  restartDelayMs?: number;
  /** A service that ran for so long starts with the first delay again. Default 300 000. */
  stableMs?: number;
  /** Time between two questions for life. Default 5 000. */
  aliveIntervalMs?: number;
  /** Longest that one answer may take. Default 10 000. */
  answerTimeoutMs?: number;
  /** Answers missed in a row after which a service is killed and started again. Default 4. */
  maxMissedAnswers?: number;
  clock?: Clock;
}

interface Entry {
  service: Service;
  child: ChildProcess;
  exited: Promise<string>;
}

const keptLinesForErrors = 12;
const maxRestartDelayMs = 60_000;

/**
 * Keeps services running: started in order, each when the one before is ready; restarted when they die or do not answer, ever more
 * slowly but without end, so that one broken service takes no other with it; stopped in reverse order. A service runs in its own process group, so that Ctrl-C in a terminal reaches only the supervisor. Its
 * standard input is a pipe that nobody writes to: when the supervisor dies, however, the pipe closes, and a service
 * that was given AVIARY_EXIT_WITH_PARENT=1 stops by itself.
 */
export class Supervisor {
  readonly #options: Required<SupervisorOptions>;
  readonly #entries: Entry[] = [];
  readonly #stopping = new AbortController();

  constructor(options: SupervisorOptions) {
    this.#options = {
      restartDelayMs: 500,
      stableMs: 300_000,
      aliveIntervalMs: 5_000,
      answerTimeoutMs: 10_000,
      maxMissedAnswers: 4,
      clock: systemClock,
      ...options,
    };
  }

  /** Process ids of the services that run now, by name. */
  pids(): Record<string, number | undefined> {
    return Object.fromEntries(this.#entries.map(({ service, child }) => [service.name, child.pid]));
  }

  /** Starts a service and waits until it is ready. Throws `internal` with its last lines when it ends before, `deadline_exceeded`. */
  async start(service: Service, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const tail = new LineTail(keptLinesForErrors);
    const entry: Entry = { service, ...this.#spawn(service, tail) };
    this.#entries.push(entry);
    try {
      await this.#waitReady(entry, signal);
    } catch (error) {
      signal.throwIfAborted();
      const lines = tail.lines().map((line) => `\n    ${line}`);
      const details = lines.length > 0 ? `\n  its last lines:${lines.join('')}` : '';
      throw new AppError('internal', `cannot start ${service.name}: ${errorText(error)}${details}`, { cause: error });
    }
    void this.#keepRunning(entry);
  }

  /** Stops every service, the last started first. Resolves when all are gone. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const entry of this.#entries.toReversed()) await this.#stopOne(entry);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #spawn({ name, file, args, env }: Service, tail?: LineTail): Pick<Entry, 'child' | 'exited'> {
    const child = spawn(file, args, {
      env: { ...env, AVIARY_EXIT_WITH_PARENT: '1' },
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    });
    const onLine = (line: string) => {
      tail?.add(line);
      this.#options.onLine(name, line);
    };
    forEachLine(child.stdout, onLine);
    forEachLine(child.stderr, onLine);
    child.stdin.on('error', () => undefined); // the service may end first; its exit is what counts
    const exited = new Promise<string>((resolve) => {
      child.on('error', (error) => resolve(`cannot be run (${error.message})`));
      child.on('close', (code, signal) => resolve(signal ? `was killed by ${signal}` : `ended with exit code ${code}`));
    });
    return { child, exited };
  }

  async #waitReady({ service, exited }: Entry, signal: AbortSignal): Promise<void> {
    const controller = new AbortController();
    const either = AbortSignal.any([signal, controller.signal]);
    const ended = exited.then((how) => {
      throw new Error(`it ${how} before it was ready`);
    });
    const ready = waitFor(
      {
        what: `readiness of ${service.name}`,
        timeoutMs: service.readyTimeoutMs,
        intervalMs: 50,
        signal: either,
        clock: this.#options.clock,
      },
      () => service.isReady(either).catch(() => false),
    );
    try {
      await Promise.race([ready, ended]);
    } finally {
      controller.abort();
      await ready.catch(() => undefined);
    }
  }

  async #keepRunning(entry: Entry): Promise<void> {
    const { clock, onLine, restartDelayMs, stableMs } = this.#options;
    let attempt = 0;
    for (let isReady = true; ; isReady = false) {
      const startedAtMs = clock.now();
      const ended = new AbortController();
      const watched = this.#watchLife(entry, isReady, AbortSignal.any([this.#stopping.signal, ended.signal]));
      const how = await entry.exited;
      ended.abort();
      await watched;
      if (this.#stopping.signal.aborted) return;
      if (clock.now() - startedAtMs >= stableMs) attempt = 0;
      const delayMs = backoffMs(attempt++, { initialMs: restartDelayMs, maxMs: maxRestartDelayMs });
      onLine(entry.service.name, `${how}; starting it again in ${Math.round(delayMs)} ms`);
      await clock.sleep(delayMs, this.#stopping.signal).catch(() => undefined);
      if (this.#stopping.signal.aborted) return;
      Object.assign(entry, this.#spawn(entry.service));
    }
  }

  /** Kills a process that was ready and does not answer any more, or that does not become ready in its time. */
  async #watchLife({ service, child }: Entry, wasReady: boolean, signal: AbortSignal): Promise<void> {
    const { clock, onLine, aliveIntervalMs, answerTimeoutMs, maxMissedAnswers } = this.#options;
    const startedAtMs = clock.now();
    let hasAnswered = wasReady;
    let missed = 0;
    for (;;) {
      await clock.sleep(aliveIntervalMs, signal).catch(() => undefined);
      if (signal.aborted) return;
      const answer = AbortSignal.any([signal, AbortSignal.timeout(answerTimeoutMs)]);
      const isAlive = await service.isAlive(answer).catch(() => false);
      if (signal.aborted) return;
      hasAnswered ||= isAlive;
      missed = isAlive ? 0 : missed + 1;
      const isHung = hasAnswered ? missed >= maxMissedAnswers : clock.now() - startedAtMs >= service.readyTimeoutMs;
      if (!isHung) continue;
      onLine(service.name, `does not answer (asked ${missed} times): killing it`);
      child.kill('SIGKILL');
      return;
    }
  }

  async #stopOne({ service, child, exited }: Entry): Promise<void> {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    const timer = setTimeout(() => {
      this.#options.onLine(service.name, `did not stop within ${service.stopTimeoutMs} ms: killing it`);
      child.kill('SIGKILL');
    }, service.stopTimeoutMs);
    await exited;
    clearTimeout(timer);
  }
}
