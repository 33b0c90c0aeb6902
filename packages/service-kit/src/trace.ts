import { AsyncLocalStorage } from 'node:async_hooks';

/** The ids that join the log lines which one request makes, in every process that it passes through. */
export interface Trace {
  /** `req-…`, as the API answers it. */
  requestId?: string;
  /** The operation that carries the request out, as a bare UUID. */
  operationId?: string;
}

/** The headers by which a trace goes from one process of the platform to the next. */
const headers = { requestId: 'x-aviary-request-id', operationId: 'x-aviary-operation-id' } as const satisfies Record<
  keyof Trace,
  string
>;
const names = Object.keys(headers) as (keyof Trace)[];
/** What others send is written to logs: nothing but ids. */
const idPattern = /^[\w-]{1,64}$/;

const traces = new AsyncLocalStorage<Trace>();

/** Runs `work`, and what it starts, under the present trace with `trace` added. */
export function runWithTrace<T>(trace: Trace, work: () => T): T {
  return traces.run({ ...traces.getStore(), ...trace }, work);
}

/** What the present work is done for; empty outside of any request. */
export function currentTrace(): Trace {
  return traces.getStore() ?? {};
}

/** Puts the present trace into the headers of a call to another process. */
export function writeTraceHeaders(target: { set(name: string, value: string): void }): void {
  const trace = currentTrace();
  for (const name of names) {
    const value = trace[name];
    if (value !== undefined) target.set(headers[name], value);
  }
}

/** The trace that came with a call; headers that hold no ids are left aside. */
export function readTraceHeaders(source: { get(name: string): string | null }): Trace {
  const trace: Trace = {};
  for (const name of names) {
    const value = source.get(headers[name]);
    if (value !== null && idPattern.test(value)) trace[name] = value;
  }
  return trace;
}
