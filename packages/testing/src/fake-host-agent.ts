import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { AppError } from '@aviary/core';
import { HostAgent } from '@aviary/proto/hostagent';
import { toConnectError } from '@aviary/service-kit/connect-errors';
import type { ConnectRouter, ServiceImpl } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { FakeSandboxes } from './fake-sandboxes.ts';

type Rpc = keyof typeof HostAgent.method;

/** A host agent without microVMs: keeps sandboxes in memory, follows the protocol, and fails when told to. */
export class FakeHostAgent implements AsyncDisposable {
  readonly sandboxes = new FakeSandboxes();
  /** Every call, with the headers it came with. */
  readonly calls: { rpc: Rpc; authorization: string | null; requestId: string | null }[] = [];
  readonly #server: http2.Http2Server;
  readonly #sessions = new Set<http2.ServerHttp2Session>();
  readonly #failures = new Map<Rpc, AppError[]>();
  readonly #gates = new Map<Rpc, Promise<void>>();

  private constructor() {
    this.#server = http2.createServer(connectNodeAdapter({ routes: (router) => this.#register(router) }));
    this.#server.on('session', (session) => {
      this.#sessions.add(session);
      session.on('close', () => this.#sessions.delete(session));
    });
  }

  /** Starts on a free loopback port, or on `port`. */
  static async start(port = 0): Promise<FakeHostAgent> {
    const agent = new FakeHostAgent();
    await new Promise<void>((resolve) => agent.#server.listen(port, '127.0.0.1', resolve));
    return agent;
  }

  /** `host:port`, as an agent registers it. */
  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Makes the next call of `rpc` fail with `error`; called again, the one after it too. */
  failNext(rpc: Rpc, error: AppError): void {
    this.#failures.set(rpc, [...(this.#failures.get(rpc) ?? []), error]);
  }

  /** Holds calls of `rpc` until the returned function is called. */
  hold(rpc: Rpc): () => void {
    const gate = Promise.withResolvers<void>();
    this.#gates.set(rpc, gate.promise);
    return () => {
      this.#gates.delete(rpc);
      gate.resolve();
    };
  }

  /** Ends its connections as an agent does that stops in peace: the calls under way finish. */
  async sayGoodbye(): Promise<void> {
    for (const session of this.#sessions) session.goaway();
    await new Promise<void>((resolve) => setImmediate(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #register(router: ConnectRouter): void {
    const service = this.sandboxes.service();
    const guarded = Object.fromEntries(
      Object.entries(service).map(([name, method]) => [name, this.#guard(name as Rpc, method as never)]),
    );
    router.service(HostAgent, guarded as Partial<ServiceImpl<typeof HostAgent>>);
  }

  #guard(rpc: Rpc, method: (...args: unknown[]) => unknown) {
    const before = async (context: { requestHeader: Headers }) => {
      const { requestHeader } = context;
      this.calls.push({
        rpc,
        authorization: requestHeader.get('authorization'),
        requestId: requestHeader.get('x-aviary-request-id'),
      });
      await this.#gates.get(rpc);
      const failure = this.#failures.get(rpc)?.shift();
      if (failure) throw failure;
    };
    if (HostAgent.method[rpc].methodKind === 'server_streaming') {
      return async function* (request: unknown, context: { requestHeader: Headers }) {
        try {
          await before(context);
          yield* method(request, context) as AsyncIterable<unknown>;
        } catch (error) {
          throw toConnectError(error);
        }
      };
    }
    return async (request: unknown, context: { requestHeader: Headers }) => {
      try {
        await before(context);
        return await method(request, context);
      } catch (error) {
        throw toConnectError(error);
      }
    };
  }
}
