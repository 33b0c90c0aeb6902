import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AppError } from '@aviary/core';
import type { AviaryClient, IdentityProvider, SecondFactorNeeded, SignedIn } from '@aviary/sdk';
import { withDeadline } from '@aviary/service-kit';
import type { CommandContext } from '../command.ts';

/** As long as the server waits for somebody who is at a provider. */
const patienceMs = 10 * 60_000;

type Accounts = AviaryClient['accounts'];

/**
 * Signs in by a browser on this machine, which comes back to a port of ours (RFC 8252, 7.3). The code that it brings is of use only with a
 * verifier that never leaves this process. Throws AppError when the provider or the server refuses, or nobody comes back within ten minutes.
 */
export async function logInAtProvider(
  accounts: Accounts,
  provider: string,
  { output, signal }: Pick<CommandContext, 'output' | 'signal'>,
): Promise<SignedIn | SecondFactorNeeded> {
  const known = await findProvider(accounts, provider, signal);
  const codeVerifier = randomBytes(32).toString('base64url');
  const codeChallenge = createHash('sha256').update(codeVerifier).digest('base64url');
  await using listener = await listen();
  output.note(
    `Open this in a browser on this machine, and sign in there:\n\n  ${accounts.signInUrl(known, { redirectPort: listener.port, codeChallenge })}\n`,
  );
  const answer = await withDeadline(
    { what: 'signing in in the browser', timeoutMs: patienceMs, parent: signal },
    () => listener.cameBack,
  );
  const code = answer.get('code');
  if (code === null) throw refused(answer);
  return await accounts.exchange({ code, codeVerifier }, { signal });
}

async function findProvider(accounts: Accounts, id: string, signal: AbortSignal): Promise<IdentityProvider> {
  const providers = await accounts.providers({ signal });
  const found = providers.find((one) => one.id === id);
  if (found) return found;
  const known = providers.length === 0 ? 'it has none' : `it has ${providers.map((one) => one.id).join(', ')}`;
  throw new AppError('not_found', `this server has no sign-in provider ${id}; ${known}`);
}

interface Listener extends AsyncDisposable {
  port: number;
  /** What the browser brings. */
  cameBack: Promise<URLSearchParams>;
}

async function listen(): Promise<Listener> {
  const { promise: cameBack, resolve } = Promise.withResolvers<URLSearchParams>();
  const server = createServer((request, response) => {
    const query = readAnswer(request);
    // The page is on its way before the port closes.
    response.once('close', () => query && resolve(query));
    tell(response, query);
  });
  await new Promise<void>((ready, failed) => {
    server.once('error', failed);
    server.listen(0, '127.0.0.1', ready);
  });
  return {
    port: (server.address() as AddressInfo).port,
    cameBack,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolveClosed) => server.close(resolveClosed));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** What a request brings; undefined for one that is no end of a sign-in, such as for an icon. */
function readAnswer({ method, url = '/' }: IncomingMessage): URLSearchParams | undefined {
  const { pathname, searchParams } = new URL(url, 'http://127.0.0.1');
  const isAnswer =
    method === 'GET' && pathname === '/callback' && (searchParams.has('code') || searchParams.has('error'));
  return isAnswer ? searchParams : undefined;
}

/** Tells the person at the browser where it goes on; nothing of what came is repeated to them. */
function tell(response: ServerResponse, query: URLSearchParams | undefined): void {
  const text = query?.has('code')
    ? 'Go on at the command line: you can close this page.'
    : 'You are not signed in: the command line says why. You can close this page.';
  response
    .writeHead(query ? 200 : 404, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
    .end(query ? text : '');
}

const maxWords = 300;

/** The words come from whoever sent the browser here, so they are shown as text of theirs, on one line. */
function refused(answer: URLSearchParams): AppError {
  const words = (answer.get('error_description') ?? answer.get('error') ?? '').replaceAll(/[\p{C}\s]+/gu, ' ').trim();
  return new AppError('unauthorized', `not signed in: ${words.slice(0, maxWords)}`);
}
