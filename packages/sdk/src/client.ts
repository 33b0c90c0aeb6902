import { Accounts } from './accounts.ts';
import { Admin } from './admin.ts';
import { ApiKeys } from './api-keys.ts';
import { Audit } from './audit.ts';
import { AviaryError } from './aviary-error.ts';
import { readEnvironment } from './environment.ts';
import { Files } from './files.ts';
import { Hosts } from './hosts.ts';
import { patientFetch } from './patient-fetch.ts';
import { defaultRetryPolicy, type RetryPolicy } from './retry-policy.ts';
import { Sandboxes } from './sandboxes.ts';
import { Generations, Snapshots } from './saved-states.ts';
import { Teams } from './teams.ts';
import { type AccessTokenSource, type CallOptions, Transport } from './transport.ts';

export interface AviaryClientOptions {
  /** Default: the variable AVIARY_API_URL, else `http://127.0.0.1:7070`. A `/v1` at its end is no part of it and left out. */
  apiUrl?: string;
  /** `avy_…`. Default: the variable AVIARY_API_KEY. Without one only `health` works. */
  apiKey?: string;
  /** For a person who has logged in: an access token, or what gives one that is still good. Comes before `apiKey`. */
  accessToken?: string | AccessTokenSource;
  /** Replaces the global fetch, e.g. to go through a proxy. */
  fetch?: typeof fetch;
  retry?: Partial<RetryPolicy>;
  /** Sent as User-Agent. */
  userAgent?: string;
  /** Waits between tries. Default: a timer. */
  sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

export const defaultApiUrl = 'http://127.0.0.1:7070';

/** A connection to one Aviary installation. Holds no sockets of its own; nothing needs closing. */
export class AviaryClient {
  readonly apiUrl: string;
  readonly sandboxes: Sandboxes;
  readonly files: Files;
  readonly generations: Generations;
  readonly snapshots: Snapshots;
  readonly hosts: Hosts;
  readonly accounts: Accounts;
  readonly apiKeys: ApiKeys;
  readonly teams: Teams;
  readonly audit: Audit;
  readonly admin: Admin;
  /** What calls show of who makes them; null without a credential. */
  readonly credential: 'access_token' | 'api_key' | null;
  readonly #transport: Transport;

  /** Throws AviaryError `invalid_request` when `apiUrl` is not an http(s) URL. */
  constructor(options: AviaryClientOptions = {}) {
    this.apiUrl = parseApiUrl(options.apiUrl ?? readEnvironment('AVIARY_API_URL') ?? defaultApiUrl);
    const apiKey = options.apiKey ?? readEnvironment('AVIARY_API_KEY');
    this.credential = options.accessToken !== undefined ? 'access_token' : apiKey ? 'api_key' : null;
    this.#transport = new Transport({
      apiUrl: this.apiUrl,
      apiKey,
      accessToken: asSource(options.accessToken),
      fetch: options.fetch ?? fetch,
      patientFetch: options.fetch ?? patientFetch,
      userAgent: options.userAgent ?? 'aviary-sdk/0.1.0',
      retry: { ...defaultRetryPolicy, ...options.retry },
      sleep: options.sleep ?? sleep,
    });
    this.sandboxes = new Sandboxes(this.#transport);
    this.files = new Files(this.#transport);
    this.generations = new Generations(this.#transport);
    this.snapshots = new Snapshots(this.#transport);
    this.hosts = new Hosts(this.#transport);
    this.accounts = new Accounts(this.#transport);
    this.apiKeys = new ApiKeys(this.#transport);
    this.teams = new Teams(this.#transport);
    this.audit = new Audit(this.#transport);
    this.admin = new Admin(this.#transport);
  }

  /** Resolves when the API answers and is healthy. Throws AviaryError. */
  async health(options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'GET', path: '/health', ...options });
  }
}

function asSource(token: string | AccessTokenSource | undefined): AccessTokenSource | undefined {
  return typeof token === 'string' ? async () => token : token;
}

function parseApiUrl(text: string): string {
  const url = URL.parse(text);
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new AviaryError(
      'invalid_request',
      `the API's URL must start with http:// or https://, not ${JSON.stringify(text)}`,
    );
  }
  // Paths bring their version along; a URL that was copied from a call has it too.
  return url.href.replace(/\/+$/, '').replace(/\/v1$/, '').replace(/\/+$/, '');
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
