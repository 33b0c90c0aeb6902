import { TOTP } from 'otpauth';
import type { Reply, TestPlatform } from '../test-platform.ts';

export const password = 'correct horse battery';

/** For tests: a person at a client that keeps its refresh token itself. */
export interface TestAccount {
  email: string;
  userId: string;
  teamId: string;
  sessionId: string;
  accessToken: string;
  refreshToken: string;
  /** Calls the API with the access token. */
  call(method: string, url: string, body?: unknown): Promise<Reply>;
}

export type CallApi = Pick<TestPlatform, 'call'>;

/** Calls the API as nobody. */
export function callAnonymously({ call }: CallApi, url: string, body: unknown, headers = {}): Promise<Reply> {
  return call('POST', url, { key: '', body, headers });
}

/** For tests: what a log-in answered, as a client keeps it. */
export function accountOf(platform: CallApi, { body }: Reply): TestAccount {
  const headers = { authorization: `Bearer ${body.access_token}` };
  return {
    email: body.user.email,
    userId: body.user.id,
    teamId: body.team?.id,
    sessionId: body.session_id,
    accessToken: body.access_token,
    refreshToken: body.refresh_token,
    call: (method, url, sent) =>
      platform.call(method, url, { key: '', headers, ...(sent === undefined ? {} : { body: sent }) }),
  };
}

/** For tests: a new account, signed in. */
export async function signUpAs(platform: CallApi, email: string): Promise<TestAccount> {
  const reply = await callAnonymously(platform, '/v1/auth/signup', { email, password, refresh_token_in: 'body' });
  if (reply.status !== 201) throw new Error(`not signed up: ${JSON.stringify(reply.body)}`);
  return accountOf(platform, reply);
}

/** For tests: logs in and answers what came of it. */
export function logInAs(platform: CallApi, email: string, given = password): Promise<Reply> {
  return callAnonymously(platform, '/v1/auth/login', { email, password: given, refresh_token_in: 'body' });
}

/** For tests: a second factor in use. */
export interface TestFactor {
  app: TOTP;
  recoveryCodes: string[];
}

/** For tests: sets up an app for an account with {@link password}, by the code that it shows at `now`. */
export async function enrolTotp(user: TestAccount, now = Date.now()): Promise<TestFactor> {
  const begun = await user.call('POST', '/v1/me/totp', { password });
  const app = new TOTP({ secret: begun.body.secret });
  const { status, body } = await user.call('POST', '/v1/me/totp/confirm', { code: app.generate({ timestamp: now }) });
  if (status !== 200) throw new Error(`not enrolled: ${JSON.stringify([begun.body, body])}`);
  return { app, recoveryCodes: body.recovery_codes };
}
