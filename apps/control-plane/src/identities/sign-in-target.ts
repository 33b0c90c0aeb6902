import type { StartSignIn } from '@aviary/api-contract';
import { AppError } from '@aviary/core';

/** Where a sign-in ends: the URL, and for a program what proves that it is the one that began. */
export interface SignInTarget {
  returnTo: string;
  codeChallenge: string | null;
}

/** Reads where to go in the end: a page of `publicUrl`, or a program on the browser's own machine; nowhere else. Throws `invalid_request`. */
export function readTarget(publicUrl: URL, asked: StartSignIn): SignInTarget {
  const { return_to: page, redirect_port: port, code_challenge: codeChallenge } = asked;
  if (port === undefined && codeChallenge === undefined) {
    return { returnTo: ownPage(publicUrl, page ?? '/'), codeChallenge: null };
  }
  if (port === undefined || codeChallenge === undefined || page !== undefined) {
    throw refuse(
      'redirect_port',
      'redirect_port and code_challenge belong together, for a program, and return_to is for a page',
    );
  }
  // A loopback address and not `localhost`, which may lead elsewhere (RFC 8252, 8.3).
  return { returnTo: `http://127.0.0.1:${port}/callback`, codeChallenge };
}

/** A page of ours, as the browser will read it: "//host", "/\host" and "/<tab>/host" are none. */
export function ownPage({ origin }: URL, page: string): string {
  const url = URL.parse(page, origin);
  if (!page.startsWith('/') || url?.origin !== origin) {
    throw refuse('return_to', 'return_to must be the path of a page of this site, such as /settings');
  }
  return url.href;
}

/** `target` with what came of it. */
export function withOutcome(target: string, outcome: Record<string, string>): string {
  const url = new URL(target);
  for (const [name, value] of Object.entries(outcome)) url.searchParams.set(name, value);
  return url.href;
}

function refuse(field: string, message: string): AppError {
  return new AppError('invalid_request', message, { details: { field } });
}
