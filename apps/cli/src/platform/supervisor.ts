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
  /** From SIGTERM to SIGKILL. */
  stopTimeoutMs: number;
}

export interface SupervisorOptions {
  /** Each line that a service writes, and what the supervisor does about the service. */
  onLine: (service: string, line: string) => void;
  /** Restarts of one service within `restartWindowMs` after which everything is given up. Default 5. */
  maxRestarts?: number;
  /** Default 300 000. */
  restartWindowMs?: number;
  /** First delay before a restart; later ones double. Default 500. */
  restartDelayMs?: number;
  clock?: Clock;
}

interface Entry {
  service: Service;
  child: ChildProcess;
  exited: Promise<string>;
  restartedAtMs: number[];
}

const keptLinesForErrors = 12;

/**
 * Keeps services running: started in order, each when the one before is ready; restarted when they die; stopped in
 * reverse order. A service runs in its own process group, so that Ctrl-C in a terminal reaches only the supervisor. Its
 * standard input is a pipe that nobody writes to: when the supervisor dies, however, the pipe closes, and a service
 * that was given AVIARY_EXIT_WITH_PARENT=1 stops by itself.
 */
export class Supervisor {
  readonly #options: Required<SupervisorOptions>;
  readonly #entries: Entry[] = [];
  readonly #stopping = new AbortController();
  readonly #failure = Promise.withResolvers<AppError>();

  constructor(options: SupervisorOptions) {
    this.#options = { maxRestarts: 5, restartWindowMs: 300_000, restartDelayMs: 500, clock: systemClock, ...options };
  }

  /** Resolves with the reason when a service cannot be kept running; the caller then stops everything. */
  get failed(): Promise<AppError> {
    return this.#failure.promise;
  }

  /** Process ids of the services that run now, by name. */
  pids(): Record<string, number | undefined> {
    return Object.fromEntries(this.#entries.map(({ service, child }) => [service.name, child.pid]));
  }

  /** Starts a service and waits until it is ready. Throws `internal` with its last lines when it ends before, `deadline_exceeded`. */
  async start(service: Service, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const tail = new LineTail(keptLinesForErrors);
    const entry: Entry = { service, ...this.#spawn(service, tail), restartedAtMs: [] };
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
    const { clock, onLine, maxRestarts, restartWindowMs, restartDelayMs } = this.#options;
    const { name } = entry.service;
    for (;;) {
      const how = await entry.exited;
      if (this.#stopping.signal.aborted) return;
      const now = clock.now();
      entry.restartedAtMs = entry.restartedAtMs.filter((at) => now - at < restartWindowMs);
      if (entry.restartedAtMs.length >= maxRestarts) {
        const seconds = Math.round(restartWindowMs / 1_000);
        const message = `${name} ${how}, and was restarted ${maxRestarts} times within ${seconds} s: giving up`;
        this.#failure.resolve(new AppError('internal', message));
        return;
      }
      const delayMs = backoffMs(entry.restartedAtMs.length, { initialMs: restartDelayMs });
      entry.restartedAtMs.push(now);
      onLine(name, `${how}; starting it again in ${Math.round(delayMs)} ms`);
      await clock.sleep(delayMs, this.#stopping.signal).catch(() => undefined);
      if (this.#stopping.signal.aborted) return;
      Object.assign(entry, this.#spawn(entry.service));
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
