import type {
  Identity,
  IdentityProvider,
  LogInRequest,
  Me,
  OwnerProof,
  Passkey,
  SecondFactorNeeded,
  SignedIn,
  UserSession,
} from './resources.ts';
import type { CallOptions, Transport } from './transport.ts';

/** Logging in and out, and one's own account. Every method throws AviaryError. */
export class Accounts {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Opens a session: its access token is good for fifteen minutes, its refresh token once. For an account with a second factor it resolves
   * with a challenge instead (`'challenge' in answer`), for {@link completeLogIn}.
   */
  async logIn(request: LogInRequest, options: CallOptions = {}): Promise<SignedIn | SecondFactorNeeded> {
    return await this.#prove('/v1/auth/login', { ...request, refresh_token_in: 'body' }, options);
  }

  /** Makes an account with a team of its own, and opens a session. */
  async signUp(request: LogInRequest & { name?: string }, options: CallOptions = {}): Promise<SignedIn> {
    return await this.#prove('/v1/auth/signup', { ...request, refresh_token_in: 'body' }, options);
  }

  /** Opens the session of a challenge, by a code of the account's app or a recovery code. After a wrong one the challenge is still good. */
  async completeLogIn(request: { challenge: string; code: string }, options: CallOptions = {}): Promise<SignedIn> {
    return await this.#prove('/v1/auth/second-factor', { ...request, refresh_token_in: 'body' }, options);
  }

  /** Makes the first administrator, by the code that the platform printed at its start. Resolves as {@link logIn} does. */
  async claim(
    request: LogInRequest & { code: string; name?: string },
    options: CallOptions = {},
  ): Promise<SignedIn | SecondFactorNeeded> {
    return await this.#prove('/v1/auth/claim', { ...request, refresh_token_in: 'body' }, options);
  }

  /** Where one can sign in instead of by password. */
  async providers(options: CallOptions = {}): Promise<IdentityProvider[]> {
    const call = { method: 'GET', path: '/v1/auth/providers', isAnonymous: true } as const;
    return (await this.#transport.json<{ items: IdentityProvider[] }>({ ...call, ...options })).items;
  }

  /**
   * What a program opens in a browser on its own machine to sign in at a provider. It comes back to `http://127.0.0.1:{redirectPort}/callback`, with
   * `code` for {@link exchange}, or with `error` and `error_description`. `codeChallenge` is the SHA-256 of the verifier, in base64url.
   */
  signInUrl(
    provider: Pick<IdentityProvider, 'start_url'>,
    { redirectPort, codeChallenge }: { redirectPort: number; codeChallenge: string },
  ): string {
    const query = new URLSearchParams({ redirect_port: String(redirectPort), code_challenge: codeChallenge });
    return `${provider.start_url}?${query}`;
  }

  /** Opens a session by the code of a sign-in at a provider, within a minute. Resolves as {@link logIn} does. */
  async exchange(
    { code, codeVerifier }: { code: string; codeVerifier: string },
    options: CallOptions = {},
  ): Promise<SignedIn | SecondFactorNeeded> {
    const json = { code, code_verifier: codeVerifier, refresh_token_in: 'body' };
    return await this.#prove('/v1/auth/exchange', json, options);
  }

  /** What the account is linked with at providers. */
  async identities(options: CallOptions = {}): Promise<Identity[]> {
    const call = { method: 'GET', path: '/v1/me/identities' } as const;
    return (await this.#transport.json<{ items: Identity[] }>({ ...call, ...options })).items;
  }

  /** Throws `invalid_state` when it is the last way in which one can sign in. */
  async unlinkIdentity(id: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: `/v1/me/identities/${encodeURIComponent(id)}`, ...options });
  }

  /** Uses the refresh token up and gives the next. */
  async refresh(refreshToken: string, options: CallOptions = {}): Promise<SignedIn> {
    return await this.#prove('/v1/auth/refresh', { refresh_token: refreshToken }, options);
  }

  async logOut(refreshToken: string, options: CallOptions = {}): Promise<void> {
    await this.#prove('/v1/auth/logout', { refresh_token: refreshToken }, options);
  }

  /** Goes on in another team: the access token is for that one, and so are those that refreshing gives. */
  async switchTeam(teamId: string, options: CallOptions = {}): Promise<SignedIn> {
    const call = { method: 'POST', path: '/v1/auth/switch-team', json: { team_id: teamId }, isSentOnce: true } as const;
    return await this.#transport.json({ ...call, ...options });
  }

  async me(options: CallOptions = {}): Promise<Me> {
    return await this.#transport.json({ method: 'GET', path: '/v1/me', ...options });
  }

  async updateMe(changes: { name: string }, options: CallOptions = {}): Promise<Me> {
    return await this.#transport.json({ method: 'PATCH', path: '/v1/me', json: changes, ...options });
  }

  /** The caller's sessions, newest first, at most 100. */
  async sessions(options: CallOptions = {}): Promise<UserSession[]> {
    const call = { method: 'GET', path: '/v1/me/sessions' } as const;
    return (await this.#transport.json<{ items: UserSession[] }>({ ...call, ...options })).items;
  }

  /** Ends one of the caller's sessions at once. Throws `not_found`. */
  async endSession(id: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: `/v1/me/sessions/${encodeURIComponent(id)}`, ...options });
  }

  /** Ends all of the caller's sessions, this one too. */
  async logOutEverywhere(options: CallOptions = {}): Promise<void> {
    await this.#change('/v1/auth/logout-all', undefined, options);
  }

  /**
   * Changes the password, or sets a first one, and ends the caller's other sessions. `currentPassword` is needed where there is one, `code` where
   * there is a second factor.
   */
  async changePassword(
    { currentPassword, newPassword, code }: { currentPassword?: string; newPassword: string; code?: string },
    options: CallOptions = {},
  ): Promise<void> {
    await this.#change(
      '/v1/me/password',
      { current_password: currentPassword, new_password: newPassword, code },
      options,
    );
  }

  /** The caller's passkeys, newest first. They are made and shown in browsers. */
  async passkeys(options: CallOptions = {}): Promise<Passkey[]> {
    const call = { method: 'GET', path: '/v1/me/passkeys' } as const;
    return (await this.#transport.json<{ items: Passkey[] }>({ ...call, ...options })).items;
  }

  /** Throws `invalid_state` when it is the last way in which one can sign in. */
  async removePasskey(id: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: `/v1/me/passkeys/${encodeURIComponent(id)}`, ...options });
  }

  /** Asks for another mail by which the address is verified. */
  async requestVerification(options: CallOptions = {}): Promise<void> {
    const call = { method: 'POST', path: '/v1/auth/verify-email/request', isSentOnce: true } as const;
    await this.#transport.json({ ...call, ...options });
  }

  /** Verifies an address by the token of a mailed link: what follows its "#". */
  async verifyEmail(token: string, options: CallOptions = {}): Promise<void> {
    await this.#prove('/v1/auth/verify-email', { token }, options);
  }

  /** Asks for a mail by which a new password is set. Resolves in the same way for an address that is nobody's. */
  async requestPasswordReset(email: string, options: CallOptions = {}): Promise<void> {
    await this.#prove('/v1/me/password/reset', { email }, options);
  }

  /** Sets a password by the token of a mailed link, and ends all sessions; log in then. */
  async confirmPasswordReset(request: { token: string; password: string }, options: CallOptions = {}): Promise<void> {
    const json = { token: request.token, new_password: request.password };
    await this.#prove('/v1/me/password/reset/confirm', json, options);
  }

  /**
   * Deletes the caller's account, with the teams that have nobody else. `proof` is the password, or a code of the second factor; with
   * neither a log-in of a moment ago is enough. Error `invalid_state` with `details.teams` while they own a team that has others.
   */
  async deleteMe(proof: OwnerProof = {}, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: '/v1/me', json: proof, ...options });
  }

  /** Makes a secret for an app that shows one-time codes; log-ins ask for one after {@link confirmTotp}. */
  async beginTotp(proof: OwnerProof = {}, options: CallOptions = {}): Promise<{ secret: string; otpauth_uri: string }> {
    return await this.#change('/v1/me/totp', proof, options);
  }

  /** Turns the second factor on by a code of the app, and resolves with the recovery codes, which are not shown again. */
  async confirmTotp(code: string, options: CallOptions = {}): Promise<string[]> {
    const answer = await this.#change<{ recovery_codes: string[] }>('/v1/me/totp/confirm', { code }, options);
    return answer.recovery_codes;
  }

  /** Turns the second factor off. */
  async disableTotp(proof: OwnerProof = {}, options: CallOptions = {}): Promise<void> {
    await this.#change('/v1/me/totp/disable', proof, options);
  }

  /** Makes new recovery codes; those before are void. */
  async renewRecoveryCodes(proof: OwnerProof = {}, options: CallOptions = {}): Promise<string[]> {
    const answer = await this.#change<{ recovery_codes: string[] }>('/v1/me/recovery-codes', proof, options);
    return answer.recovery_codes;
  }

  // Codes and secrets are no answers to keep on the server for a repeat.
  async #change<T>(path: string, json: object | undefined, options: CallOptions): Promise<T> {
    return await this.#transport.json({ method: 'POST', path, json, isSentOnce: true, ...options });
  }

  // What proves who calls is in the body; a key that the client has may be of another server.
  async #prove<T>(path: string, json: object, options: CallOptions): Promise<T> {
    const call = { method: 'POST', path, json, isSentOnce: true, isAnonymous: true } as const;
    return await this.#transport.json({ ...call, ...options });
  }
}
