import { readFile, statfs } from 'node:fs/promises';
import os from 'node:os';
import { AppError, asId, errorText } from '@aviary/core';
import { backoffMs, type Clock, type Logger, runLoop, Semaphore, waitFor } from '@aviary/service-kit';
import { importJWK, jwtVerify } from 'jose';
import {
  type HostCredentials,
  parseCredentials,
  parseEpoch,
  readCredentials,
  writeCredentials,
} from './credentials.ts';
import type { EventOutbox } from './event-outbox.ts';

const heartbeatIntervalMs = 30_000;
/** Heartbeats that may fail in a row before the host counts as cut off. */
const maxMissedHeartbeats = 3;
const requestTimeoutMs = 10_000;
/** How long a call waits for a registration under way. */
const registrationGraceMs = 5_000;

export interface LinkOptions {
  controlPlaneUrl: string;
  credentialsFile: string;
  hostTokenFile: string;
  dataDir: string;
  /** Where the control plane reaches this agent. */
  address: string;
}

export interface LinkDeps {
  events: EventOutbox;
  clock: Clock;
  logger: Logger;
  /** Called once each time the control plane is lost for good or for three heartbeats. */
  onCutOff: (reason: string) => Promise<void>;
  /** Measures the room on a directory's file system. Default: the kernel's answer. */
  freeBytes?: (directory: string) => Promise<number>;
}

/** This host's standing with its control plane: registration, heartbeats, events, and the check of who calls. */
export class ControlPlaneLink implements AsyncDisposable {
  readonly #options: LinkOptions;
  readonly #deps: LinkDeps;
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];
  #credentials: HostCredentials | undefined;
  #missedHeartbeats = 0;
  readonly #changes = new Semaphore(1);
  #refreshing: Promise<void> | undefined;

  constructor(deps: LinkDeps, options: LinkOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Reads what an earlier registration left, so that calls can be checked from the first one on. */
  async open(): Promise<void> {
    this.#credentials = await readCredentials(this.#options.credentialsFile).catch((error: unknown) => {
      this.#deps.logger.error({ error: errorText(error) }, 'cannot read the credentials of this host');
      return undefined;
    });
  }

  /** Registers if need be, waiting for the control plane as long as it takes, then keeps in touch until disposed. */
  start(): void {
    this.#loops.push(this.#run());
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { clock, logger } = this.#deps;
    for (let attempt = 0; !signal.aborted && !this.#credentials; attempt++) {
      try {
        this.#credentials = (await readCredentials(this.#options.credentialsFile)) ?? (await this.#register());
      } catch (error) {
        // A fresh platform starts its control plane and its host together: the first tries are expected to fail, but not for want of space.
        const isExpected = attempt < 20 && !(error instanceof AppError && error.code === 'disk_full');
        logger[isExpected ? 'debug' : 'warn']({ error: errorText(error) }, 'not registered yet');
        await clock.sleep(Math.min(backoffMs(attempt, { initialMs: 100 }), 2_000), signal).catch(() => undefined);
      }
    }
    if (signal.aborted) return;
    await Promise.all([
      runLoop(
        { name: 'heartbeat', intervalMs: heartbeatIntervalMs, logger, maxBackoffMs: heartbeatIntervalMs },
        () => this.heartbeatOnce(),
        signal,
      ),
      runLoop({ name: 'events', intervalMs: 0, logger, maxBackoffMs: 5_000 }, () => this.sendEventsOnce(), signal),
    ]);
  }

  /** Who calls must hold a token for this host, signed by the control plane that registered it. */
  async checkCaller(headers: Headers): Promise<void> {
    // The control plane may call before the answer to the registration was written here.
    const credentials = await waitFor(
      { what: 'the registration of this host', timeoutMs: registrationGraceMs },
      () => this.#credentials,
    ).catch(() => undefined);
    const token = /^Bearer (.+)$/.exec(headers.get('authorization') ?? '')?.[1];
    if (!credentials) throw new AppError('host_unavailable', 'this host is not registered yet; try again in a moment');
    if (!token) throw new AppError('unauthorized', 'calls to a host need a token of its control plane');
    const epoch = await readEpoch(token, credentials);
    if (epoch > credentials.epoch) await this.#raiseEpoch(credentials.host_id, epoch);
    // Asked again: a call of a newer epoch may have come in between.
    if (epoch < (this.#credentials ?? credentials).epoch)
      throw new AppError('stale_epoch', 'a newer control plane leads this host now');
  }

  /** Durable before the call that brought it is let in: no later agent takes orders of an older epoch. */
  async #raiseEpoch(hostId: string, epoch: number): Promise<void> {
    await this.#change((present) =>
      present?.host_id === hostId && present.epoch < epoch ? { ...present, epoch } : undefined,
    );
  }

  async heartbeatOnce(): Promise<void> {
    const credentials = this.#credentials;
    if (!credentials) return;
    const { onCutOff, logger } = this.#deps;
    try {
      await this.#call(`/v1/hosts/${credentials.host_id}/heartbeat`, {
        agent_version: agentVersion,
        address: this.#options.address,
      });
      if (this.#missedHeartbeats >= maxMissedHeartbeats) logger.info('the control plane is back');
      this.#missedHeartbeats = 0;
    } catch (error) {
      if (++this.#missedHeartbeats === maxMissedHeartbeats) await onCutOff(errorText(error));
      throw error;
    }
  }

  /** Sends what is pending, or waits for something to send. */
  async sendEventsOnce(): Promise<void> {
    const { events } = this.#deps;
    const batch = await events.pending();
    if (batch.length === 0) {
      await events.waitForPush(5_000, this.#stop.signal);
      return;
    }
    await this.#call('/v1/hosts/sandbox-events', { events: batch });
    await events.acknowledge(batch);
  }

  async #register(): Promise<HostCredentials> {
    const { dataDir, hostTokenFile, address } = this.#options;
    const token = (await readFile(hostTokenFile, 'utf8')).trim();
    const freeBytes = await (this.#deps.freeBytes ?? measureFreeBytes)(dataDir);
    const disk_gb = Math.floor(freeBytes / 2 ** 30);
    if (disk_gb < 1)
      throw new AppError(
        'disk_full',
        `cannot register this host: ${dataDir} has ${Math.floor(freeBytes / 2 ** 20)} MiB free, and a host needs 1 GiB to offer; free some`,
      );
    const credentials = parseCredentials(
      await this.#post('/v1/hosts/register', {
        token,
        address,
        arch: os.arch(),
        cpu_cores: os.availableParallelism(),
        memory_mb: Math.floor(os.totalmem() / 2 ** 20),
        disk_gb,
        agent_version: agentVersion,
      }),
    );
    await this.#change(() => credentials);
    this.#deps.logger.info({ hostId: credentials.host_id }, 'registered');
    return credentials;
  }

  /** A call as this host. A refused token is refreshed once. */
  async #call(path: string, body: object): Promise<unknown> {
    const token = this.#credentials?.token;
    try {
      return await this.#post(path, body, token);
    } catch (error) {
      if (!(error instanceof AppError) || (error.code !== 'unauthorized' && error.code !== 'forbidden')) throw error;
      if (this.#credentials?.token === token) await this.#refresh();
      return this.#post(path, body, this.#credentials?.token);
    }
  }

  /** A refresh token serves once: calls that are refused at the same time share what one of them gets for it. */
  #refresh(): Promise<void> {
    this.#refreshing ??= this.#refreshOnce().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #refreshOnce(): Promise<void> {
    const refresh_token = this.#credentials?.refresh_token;
    try {
      const renewed = parseCredentials(await this.#post('/v1/hosts/auth/refresh', { refresh_token }));
      await this.#change((present) =>
        present?.host_id === renewed.host_id ? { ...renewed, epoch: Math.max(present.epoch, renewed.epoch) } : renewed,
      );
    } catch (error) {
      if (error instanceof AppError && error.code === 'unauthorized')
        await this.#deps.onCutOff('the control plane refused this host');
      throw error;
    }
  }

  /** Replaces the credentials on disk, then here. One change after the other, each made from what the one before left. */
  async #change(make: (present: HostCredentials | undefined) => HostCredentials | undefined): Promise<void> {
    await this.#changes.run(async () => {
      const credentials = make(this.#credentials);
      if (!credentials) return;
      await writeCredentials(this.#options.credentialsFile, credentials);
      this.#credentials = credentials;
    });
  }

  async #post(path: string, body: object, token?: string): Promise<unknown> {
    const response = await fetch(`${this.#options.controlPlaneUrl}${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...(token ? { 'X-Host-Token': token } : {}) },
      body: JSON.stringify(body),
      signal: AbortSignal.any([this.#stop.signal, AbortSignal.timeout(requestTimeoutMs)]),
    });
    const text = await response.text();
    if (response.status === 401) throw new AppError('unauthorized', `${path} answered 401`);
    if (response.status === 403) throw new AppError('forbidden', `${path} answered 403`);
    if (!response.ok)
      throw new AppError('host_unavailable', `${path} answered ${response.status}: ${text.slice(0, 300)}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the host agent stops'));
    await Promise.allSettled(this.#loops);
  }
}

async function measureFreeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

/** The epoch that a control plane's token claims. Throws `unauthorized` for a token of anybody else, or one that claims none. */
async function readEpoch(token: string, credentials: HostCredentials): Promise<number> {
  try {
    const key = await importJWK(credentials.control_plane_public_key, 'EdDSA');
    const { payload } = await jwtVerify(token, key, {
      algorithms: ['EdDSA'],
      issuer: 'aviary',
      audience: hostUuid(credentials),
      requiredClaims: ['exp', 'epoch'],
      clockTolerance: 30,
    });
    return parseEpoch(payload['epoch']);
  } catch (error) {
    throw new AppError('unauthorized', 'the token is not valid for this host', { cause: error });
  }
}

const agentVersion = '0.1.0';

function hostUuid({ host_id }: HostCredentials): string {
  return asId('host', host_id.replace(/^host-/, ''));
}
