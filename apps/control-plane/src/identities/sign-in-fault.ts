import { type SignInError, signInErrors } from '@aviary/api-contract';

/** A sign-in that came to nothing for a reason that its page or program is told. */
export class SignInFault extends Error {
  override readonly name = 'SignInFault';
  readonly code: SignInError;

  constructor(code: SignInError, cause?: unknown) {
    super(signInErrors[code], cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
