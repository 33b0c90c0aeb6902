import { AviaryError } from './aviary-error.ts';
import { isErrorCode } from './error-codes.ts';
import { fetchPatienceMs, type PatientRequest } from './patient-fetch.ts';
import { type RetryPolicy, retryDelayMs } from './retry-policy.ts';

/** Gives an access token that is still good. */
export type AccessTokenSource = (signal: AbortSignal) => Promise<string>;

/** Settings that every call takes. */
export interface CallOptions {
  signal?: AbortSignal;
  /** Deadline of the whole call, retries included. Default 60 000, longer where the call itself waits. */
  timeoutMs?: number;
  /** Default: a new random key per call. Give one to make a call of your own repeatable. */
  idempotencyKey?: string;
}

/** Waiting for a state change to settle; 0 returns as soon as the change is accepted. */
export interface WaitOptions extends CallOptions {
  waitSec?: number;
}

export interface TransportOptions {
  apiUrl: string;
  apiKey: string | undefined;
  /** Asked for before each try; `apiKey` counts no more when there is one. */
  accessToken: AccessTokenSource | undefined;
  fetch: typeof fetch;
  /** Of calls that may take longer than the platform's own fetch waits. */
  patientFetch: (url: string, request: PatientRequest) => Promise<Response>;
  userAgent: string;
  retry: RetryPolicy;
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

export interface ApiRequest extends CallOptions {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  path: string;
  query?: Record<string, string | number | undefined>;
  /** Sent as JSON. */
  json?: unknown;
  /** Makes the body anew for each try. */
  form?: () => FormData;
  headers?: Record<string, string>;
  /**
   * Sends no idempotency key of its own making, and tries once: for calls whose answer is not worth a durable record on the server.
   * A caller that gives a key gets the record and the retries.
   */
  isSentOnce?: boolean;
  /** Shows no credential of the client's: for calls that bring their own proof. */
  isAnonymous?: boolean;
}

const defaultTimeoutMs = 60_000;
/** Added to the time that a call asks the server to wait, for the way there and back. */
const waitMarginMs = 15_000;

/** Sends requests, one place for authentication, deadlines, retries and errors. */
export class Transport {
  readonly options: TransportOptions;

  constructor(options: TransportOptions) {
    this.options = options;
  }

  /** The JSON answer. Throws AviaryError. */
  async json<T>(request: ApiRequest): Promise<T> {
    return await this.#run(request, async (response) => {
      if (response.status === 204) return undefined as T;
      const text = await response.text();
      try {
        return (text === '' ? undefined : JSON.parse(text)) as T;
      } catch (cause) {
        throw new AviaryError('bad_response', `${this.options.apiUrl} answered something that is not JSON`, {
          status: response.status,
          cause,
        });
      }
    });
  }

  /** Everything in a list, page after page as it is asked for. Throws AviaryError. */
  async *pages<T>(request: ApiRequest): AsyncGenerator<T, void, undefined> {
    let cursor: string | undefined;
    do {
      const page: { items: T[]; next_cursor?: string | null } = await this.json({
        ...request,
        query: { ...request.query, cursor },
      });
      yield* page.items;
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
  }

  /** The bytes of the answer. Throws AviaryError. */
  async bytes(request: ApiRequest): Promise<Uint8Array> {
    return await this.#run(request, async (response) => new Uint8Array(await response.arrayBuffer()));
  }

  async #run<T>(request: ApiRequest, read: (response: Response) => Promise<T>): Promise<T> {
    const timeoutMs = request.timeoutMs ?? defaultTimeoutMs;
    const deadline = AbortSignal.timeout(timeoutMs);
    const signal = request.signal ? AbortSignal.any([request.signal, deadline]) : deadline;
    try {
      return await read(await this.#sendWithRetries(request, signal));
    } catch (error) {
      request.signal?.throwIfAborted();
      if (error instanceof AviaryError) throw error;
      if (deadline.aborted) {
        throw new AviaryError('timeout', `${request.method} ${request.path} got no answer within ${timeoutMs} ms`);
      }
      throw unreachable(this.options.apiUrl, error);
    }
  }

  async #sendWithRetries(request: ApiRequest, signal: AbortSignal): Promise<Response> {
    const ownHeaders = this.#headers(request);
    for (let attempt = 0; ; attempt++) {
      const body = request.form
        ? request.form()
        : request.json === undefined
          ? undefined
          : JSON.stringify(request.json);
      const headers = { ...ownHeaders, ...(request.isAnonymous ? {} : await this.credentials(signal)) };
      const { method, timeoutMs = defaultTimeoutMs } = request;
      const call = { method, headers, signal };
      const response =
        timeoutMs > fetchPatienceMs && typeof body !== 'object'
          ? await this.options.patientFetch(this.#url(request), { ...call, body: body ?? null })
          : await this.options.fetch(this.#url(request), { ...call, ...(body === undefined ? {} : { body }) });
      if (response.ok) return response;
      const isRetryable = !isUnkeyed(request) && attempt < this.options.retry.maxRetries;
      const delayMs = isRetryable ? this.#delayMs(response) : undefined;
      const error = await readError(response, this.options.apiUrl);
      if (delayMs === undefined) throw error;
      await this.options.sleep(delayMs, signal);
    }
  }

  // A POST that is retried carries a key, the other methods are idempotent: so whatever asks to be retried may be.
  #delayMs(response: Response): number | undefined {
    return retryDelayMs(response, Date.now(), this.options.retry);
  }

  #headers(request: ApiRequest): Record<string, string> {
    const { userAgent } = this.options;
    return {
      Accept: 'application/json, application/octet-stream',
      'User-Agent': userAgent,
      ...(request.json === undefined ? {} : { 'Content-Type': 'application/json' }),
      ...(request.method === 'POST' && !isUnkeyed(request)
        ? { 'Idempotency-Key': request.idempotencyKey ?? crypto.randomUUID() }
        : {}),
      ...request.headers,
    };
  }

  /** The headers that say who calls. */
  async credentials(signal: AbortSignal): Promise<Record<string, string>> {
    const { apiKey, accessToken } = this.options;
    if (accessToken) return { Authorization: `Bearer ${await accessToken(signal)}` };
    return apiKey ? { 'X-API-Key': apiKey } : {};
  }

  #url({ path, query = {} }: ApiRequest): string {
    const url = new URL(`${this.options.apiUrl}${path}`);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    return url.href;
  }
}

/** Headers and deadline of a call that may wait on the server for `waitSec`. */
export function waiting({ waitSec = 0, ...call }: WaitOptions): CallOptions & { headers?: Record<string, string> } {
  if (waitSec <= 0) return call;
  const timeoutMs = call.timeoutMs ?? Math.max(defaultTimeoutMs, waitSec * 1_000 + waitMarginMs);
  return { ...call, timeoutMs, headers: { Prefer: `wait=${waitSec}` } };
}

/** The server may need so long after a command's limit to say what became of it, when its guest hangs. */
const commandMarginMs = 60_000;
const maxCommandSec = 24 * 3_600;

/** The deadline of a call around a command that may run for `commandSec`; 0 is the longest there is. */
export function commandTimeoutMs(commandSec: number): number {
  return (commandSec || maxCommandSec) * 1_000 + commandMarginMs;
}

export function unreachable(apiUrl: string, cause: unknown): AviaryError {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  const reason = inner instanceof Error ? inner.message || ('code' in inner ? String(inner.code) : inner.name) : '';
  return new AviaryError('unreachable', `cannot reach the API at ${apiUrl}${reason ? `: ${reason}` : ''}`, { cause });
}

/** The error in an answer that is not 2xx. */
async function readError(response: Response, apiUrl: string): Promise<AviaryError> {
  const text = await response.text();
  return errorFromBody(text, { status: response.status, apiUrl, requestId: response.headers.get('x-request-id') });
}

function errorFromBody(
  text: string,
  { status, apiUrl, requestId }: { status: number; apiUrl: string; requestId: string | null },
): AviaryError {
  const fields = parseErrorBody(text);
  if (!fields) {
    return new AviaryError(
      'bad_response',
      `${apiUrl} answered ${status} without an Aviary error: is it the API's URL?`,
      {
        status,
        requestId: requestId ?? undefined,
      },
    );
  }
  const { code, message, request_id, details } = fields;
  return new AviaryError(isErrorCode(code) ? code : 'unknown', message, {
    status,
    requestId: request_id ?? requestId ?? undefined,
    details: isErrorCode(code) ? details : { ...details, code },
  });
}

interface ErrorFields {
  code: string;
  message: string;
  request_id?: string;
  details?: Record<string, unknown>;
}

function parseErrorBody(text: string): ErrorFields | undefined {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return undefined;
  }
  const error = (body as { error?: Partial<ErrorFields> } | null)?.error;
  return typeof error?.code === 'string' && typeof error.message === 'string' ? (error as ErrorFields) : undefined;
}

function isUnkeyed({ isSentOnce = false, idempotencyKey }: ApiRequest): boolean {
  return isSentOnce && idempotencyKey === undefined;
}
