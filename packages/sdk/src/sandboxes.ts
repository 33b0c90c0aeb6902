import type { execLimits } from '@aviary/core';
import { AviaryError } from './aviary-error.ts';
import { toBase64 } from './base64.ts';
import { type ExecStreamOptions, streamExec } from './exec-stream.ts';
import type {
  BufferedExecRequest,
  CreateSandbox,
  DetachedExec,
  ExecEvent,
  ExecResult,
  ListSandboxes,
  Sandbox,
  StreamedExecRequest,
} from './resources.ts';
import { type CallOptions, commandTimeoutMs, type Transport, type WaitOptions, waiting } from './transport.ts';

/** How long a command may run for which no `timeout_sec` is given: the API's own default. */
const defaultExecTimeoutSec: (typeof execLimits)['timeoutSec']['default'] = 30;

/** Where a sandbox, or something of it, is in the API. */
export function sandboxPath(sandboxId: string, rest = ''): string {
  return `/v1/sandboxes/${encodeURIComponent(sandboxId)}${rest}`;
}

/** Sandboxes: their life, and commands in them. Every method throws AviaryError. */
export class Sandboxes {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Makes a sandbox. With `waitSec` it is running when this returns, unless that takes longer: look at `status`. */
  async create(sandbox: CreateSandbox = {}, options: WaitOptions = {}): Promise<Sandbox> {
    return await this.#transport.json({ method: 'POST', path: '/v1/sandboxes', json: sandbox, ...waiting(options) });
  }

  async get(sandboxId: string, options: CallOptions = {}): Promise<Sandbox> {
    return await this.#transport.json({ method: 'GET', path: sandboxPath(sandboxId), ...options });
  }

  /** All sandboxes that match, newest first, fetched page by page as they are asked for. */
  list({ status, pageSize }: ListSandboxes = {}, options: CallOptions = {}): AsyncGenerator<Sandbox, void, undefined> {
    return this.#transport.pages({
      method: 'GET',
      path: '/v1/sandboxes',
      query: { limit: pageSize, status: status?.length ? status.join(',') : undefined },
      ...options,
    });
  }

  /** Destroys a sandbox, its disk and its saved states. Answers it as it is then: `stopping`, or `stopped` with `waitSec`. */
  async delete(sandboxId: string, options: WaitOptions = {}): Promise<Sandbox> {
    return await this.#transport.json({ method: 'DELETE', path: sandboxPath(sandboxId), ...waiting(options) });
  }

  /**
   * Saves memory and disk and stops the microVM. `force` stops a guest that does not answer as well: then only its disk is saved,
   * and a resume boots from that.
   */
  async pause(sandboxId: string, { force, ...options }: WaitOptions & { force?: boolean } = {}): Promise<Sandbox> {
    const json = force === undefined ? {} : { json: { force } };
    const path = sandboxPath(sandboxId, '/pause');
    return await this.#transport.json({ method: 'POST', path, ...json, ...waiting(options) });
  }

  /**
   * Goes on where the last pause stopped, or at another generation, by id or name. `cold` boots from the saved disk and leaves the
   * memory aside: for a saved state whose memory is damaged (error `integrity` with `details.disk_intact`).
   */
  async resume(
    sandboxId: string,
    { generation, cold, ...options }: WaitOptions & { generation?: string; cold?: boolean } = {},
  ): Promise<Sandbox> {
    const json = { ...(generation === undefined ? {} : { generation }), ...(cold === undefined ? {} : { cold }) };
    const path = sandboxPath(sandboxId, '/resume');
    return await this.#transport.json({ method: 'POST', path, json, ...waiting(options) });
  }

  /** Makes `count` sandboxes that go on from this one's state, with its memory and its disk. */
  async fork(
    sandboxId: string,
    fork: { count?: number; timeout_sec?: number } = {},
    options: WaitOptions = {},
  ): Promise<Sandbox[]> {
    const { items } = await this.#transport.json<{ items: Sandbox[] }>({
      method: 'POST',
      path: sandboxPath(sandboxId, '/fork'),
      json: { count: fork.count ?? 1, ...(fork.timeout_sec === undefined ? {} : { timeout_sec: fork.timeout_sec }) },
      ...waiting(options),
    });
    return items;
  }

  /** Puts the sandbox back to one of its generations, by id or name. */
  async rewind(sandboxId: string, generation: string, options: WaitOptions = {}): Promise<Sandbox> {
    const path = sandboxPath(sandboxId, '/rewind');
    return await this.#transport.json({ method: 'POST', path, json: { generation }, ...waiting(options) });
  }

  /** Counts as activity: the idle time before auto-pause starts again. */
  async ping(sandboxId: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'POST', path: sandboxPath(sandboxId, '/ping'), ...options });
  }

  /** Changes the idle time before auto-pause; 0 is never. */
  async setTimeout(sandboxId: string, timeoutSec: number, options: CallOptions = {}): Promise<Sandbox> {
    const path = sandboxPath(sandboxId, '/timeout');
    return await this.#transport.json({ method: 'POST', path, json: { timeout_sec: timeoutSec }, ...options });
  }

  /**
   * Runs a command and resolves with its whole output. A command that fails, or runs into its limit, is a result and not an error.
   * Aborting the call stops the command and everything it started. Sent once; with an `idempotencyKey` it is retried where that is safe,
   * run once however often it is asked for, and goes on when the call is aborted.
   */
  async exec(sandboxId: string, command: BufferedExecRequest | string, options: CallOptions = {}): Promise<ExecResult> {
    const request: BufferedExecRequest = typeof command === 'string' ? { cmd: command } : command;
    return await this.#postExec(sandboxId, wireRequest(request), {
      timeoutMs: commandTimeoutMs(request.timeout_sec ?? defaultExecTimeoutSec),
      ...options,
    });
  }

  /** Starts a command that goes on by itself, whatever becomes of this client. Resolves once it has started. */
  async execDetached(
    sandboxId: string,
    command: BufferedExecRequest | string,
    options: CallOptions = {},
  ): Promise<DetachedExec> {
    const request: BufferedExecRequest = typeof command === 'string' ? { cmd: command } : command;
    const json = { ...wireRequest(request), detach: true };
    const answer = await this.#postExec<DetachedExec | ExecResult>(sandboxId, json, options);
    if ('pid' in answer) return answer;
    throw new AviaryError('invalid_request', answer.stderr.trim() || 'the command could not be started', {
      details: { exit_code: answer.exit_code },
    });
  }

  /** Runs a command and yields its output as it comes; see {@link streamExec}. */
  execStream(
    sandboxId: string,
    command: StreamedExecRequest | string,
    options: ExecStreamOptions = {},
  ): AsyncGenerator<ExecEvent, void, undefined> {
    const request: StreamedExecRequest = typeof command === 'string' ? { cmd: command } : command;
    return streamExec(this.#transport, { sandboxId, request }, options);
  }

  async #postExec<T = ExecResult>(sandboxId: string, json: object, options: CallOptions): Promise<T> {
    const path = sandboxPath(sandboxId, '/exec');
    return await this.#transport.json<T>({ method: 'POST', path, json, isSentOnce: true, ...options });
  }
}

function wireRequest({ stdin, ...request }: BufferedExecRequest): object {
  if (stdin === undefined) return request;
  if (typeof stdin === 'string') return { ...request, stdin };
  return { ...request, stdin: toBase64(stdin), stdin_encoding: 'base64' };
}
