import type { IncomingMessage, ServerResponse } from 'node:http';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import { client, startServer } from './test-servers.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** For tests: an issuer that does as it is told, right or wrong. */
export interface RogueIssuer extends AsyncDisposable {
  url: string;
  /** Claims of a good id token for a sign-in with this nonce. */
  claims(nonce: string): JWTPayload;
  sign(claims: JWTPayload): Promise<string>;
  /** What each path answers; `/token`, `/userinfo` and `/jwks` beside the document. */
  answers: Map<string, Answer>;
  /** Paths that were asked for, in order. */
  asked: string[];
  /** Its document, to be changed. */
  document: Record<string, unknown>;
  /** Breaks off every connection before it answers. */
  isDown: boolean;
}

export const json =
  (body: unknown, status = 200): Answer =>
  (_request, response) =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));

export async function startRogueIssuer(): Promise<RogueIssuer> {
  const server = await startServer();
  const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: 'first', use: 'sig', alg: 'RS256' };
  const document: Record<string, unknown> = {
    issuer: server.url,
    authorization_endpoint: `${server.url}/authorize`,
    token_endpoint: `${server.url}/token`,
    userinfo_endpoint: `${server.url}/userinfo`,
    jwks_uri: `${server.url}/jwks`,
    response_types_supported: ['code'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['RS256', 'HS256', 'none'],
  };
  const issuer: RogueIssuer = {
    url: server.url,
    document,
    asked: [],
    isDown: false,
    answers: new Map([
      ['/.well-known/openid-configuration', (request, response) => json(document)(request, response)],
      ['/jwks', json({ keys: [jwk] })],
    ]),
    claims: (nonce) => ({
      iss: server.url,
      aud: client.clientId,
      sub: 'somebody',
      nonce,
      email: 'somebody@example.com',
      email_verified: true,
      iat: Math.floor(Date.now() / 1000),
      exp: Math.floor(Date.now() / 1000) + 60,
    }),
    sign: (claims) => new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: 'first' }).sign(privateKey),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
  server.handle = (request, response) => {
    const path = new URL(request.url ?? '/', server.url).pathname;
    issuer.asked.push(path);
    const answer = issuer.answers.get(path);
    if (issuer.isDown) request.socket.destroy();
    else if (answer) answer(request, response);
    else response.writeHead(404).end();
  };
  return issuer;
}
