import { type SignInError, signInErrors } from '@aviary/api-contract';
import type { UserId } from '@aviary/core';

/** A sign-in that came to nothing for a reason that its page or program is told. */
export class SignInFault extends Error {
  override readonly name = 'SignInFault';
  readonly code: SignInError;
  /** Whose account it was about; undefined when that is not known. */
  readonly userId: UserId | undefined;

  constructor(code: SignInError, { cause, userId }: { cause?: unknown; userId?: UserId } = {}) {
    super(signInErrors[code], cause === undefined ? undefined : { cause });
    this.code = code;
    this.userId = userId;
  }
}

const maxCauses = 4;

/** What went wrong underneath, in words for who runs the platform: never objects, in which answers of a provider hang with their tokens. */
export function faultDetail(error: unknown): string {
  const words: string[] = [];
  for (let one = error; one instanceof Error && words.length < maxCauses; one = one.cause) {
    // The names of OAuth errors (`invalid_client`), which the library's errors carry.
    const name = 'error' in one && typeof one.error === 'string' ? ` (${one.error})` : '';
    words.push(`${one.message}${name}`);
  }
  return words.join(': ').slice(0, 500);
}
