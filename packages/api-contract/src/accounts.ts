import { emailLimits } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { byAnyone, byUser } from './access.ts';
import { component } from './component.ts';
import { closed, nullable, readableName, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';

/** An address; what makes two of them one is core's to say. */
const email = Type.String({
  minLength: emailLimits.minLength,
  maxLength: emailLimits.maxLength,
  pattern: '^[^\\u0000]+$',
});

/** A new password: any characters. */
const newPassword = Type.String({ minLength: 8, maxLength: 256 });
/** One that is checked. */
const password = Type.String({ minLength: 1, maxLength: 256 });
/** What a link, a code or a cookie holds. */
export const secret = Type.String({ minLength: 1, maxLength: 256 });
/** Of people, and of what they have. */
export const displayName = readableName(100);

export const refreshTokenIn = Type.Optional(
  Type.Enum(['cookie', 'body'], {
    default: 'cookie',
    description:
      'Where the refresh token goes: a cookie that scripts cannot read, for browsers, or the answer, for programs.',
  }),
);

export const User = component(
  'User',
  Type.Object({
    id: wireId('user'),
    email: Type.String(),
    email_verified: Type.Boolean(),
    name: Type.String(),
    is_admin: Type.Boolean({ description: 'Looks after the platform.' }),
    created_at: timestamp,
  }),
);
export type User = Static<typeof User>;

export const SessionTeam = component(
  'SessionTeam',
  Type.Object({
    id: wireId('team'),
    name: Type.String(),
    role: Type.Enum(['member', 'admin', 'owner']),
  }),
);
export type SessionTeam = Static<typeof SessionTeam>;

export const SignedIn = component(
  'SignedIn',
  Type.Object({
    access_token: Type.String({ description: 'For `Authorization: Bearer`, for fifteen minutes.' }),
    access_token_expires_at: timestamp,
    refresh_token: Type.Optional(
      Type.String({ description: 'Good once: each refresh gives a new one. Only when it was asked for in the body.' }),
    ),
    session_id: wireId('session'),
    user: User,
    team: nullable(SessionTeam),
  }),
);
export type SignedIn = Static<typeof SignedIn>;

/** A code of an app, or a recovery code. */
export const secondFactorCode = Type.String({
  minLength: 1,
  maxLength: 64,
  description: 'A code of six digits that the app shows, or a recovery code.',
});

export const SecondFactorNeeded = component(
  'SecondFactorNeeded',
  Type.Object({
    challenge: Type.String({
      description: 'For `POST /v1/auth/second-factor`, for five minutes; good for one session.',
    }),
    challenge_expires_at: timestamp,
    methods: Type.Array(Type.Enum(['totp', 'recovery_code'], { description: 'What the account has to show.' })),
  }),
);
export type SecondFactorNeeded = Static<typeof SecondFactorNeeded>;

export const CompleteLogIn = component(
  'CompleteLogIn',
  Type.Object({ challenge: secret, code: secondFactorCode, refresh_token_in: refreshTokenIn }, closed),
);
export type CompleteLogIn = Static<typeof CompleteLogIn>;

export const SignUp = component(
  'SignUp',
  Type.Object(
    { email, password: newPassword, name: Type.Optional(displayName), refresh_token_in: refreshTokenIn },
    closed,
  ),
);
export type SignUp = Static<typeof SignUp>;

export const LogIn = component('LogIn', Type.Object({ email, password, refresh_token_in: refreshTokenIn }, closed));
export type LogIn = Static<typeof LogIn>;

export const RefreshSession = component(
  'RefreshSession',
  Type.Object({ refresh_token: Type.Optional(secret) }, closed),
);
export type RefreshSession = Static<typeof RefreshSession>;

export const SwitchTeam = component('SwitchTeam', Type.Object({ team_id: wireId('team') }, closed));

export const ClaimPlatform = component(
  'ClaimPlatform',
  Type.Object(
    {
      code: secret,
      email,
      password: newPassword,
      name: Type.Optional(displayName),
      refresh_token_in: refreshTokenIn,
    },
    closed,
  ),
);
export type ClaimPlatform = Static<typeof ClaimPlatform>;

const tag = 'accounts';

export const secondFactorWords =
  'For an account with a second factor the answer is 202 and no session: `POST /v1/auth/second-factor` opens it.';
const cookieWords =
  'With the refresh token in its cookie, the request must come from the same site: browsers say so in `Origin`.';

export const VerifyEmail = component('VerifyEmail', Type.Object({ token: secret }, closed));

const linkWords =
  'The link goes by mail; where the platform sends none, who runs it finds it in the log and hands it over. It is good once.';

/** Signing up and in, and keeping a session. */
export const authRoutes = {
  signUp: {
    tag,
    access: byAnyone,
    isForOwnPages: true,
    method: 'POST',
    path: '/v1/auth/signup',
    summary: 'Sign up',
    description: 'Makes an account and a team of its own.',
    body: SignUp,
    replies: { 201: SignedIn },
    errors: [409, 429],
  },
  claimPlatform: {
    tag,
    access: byAnyone,
    isForOwnPages: true,
    method: 'POST',
    path: '/v1/auth/claim',
    summary: 'Become the first administrator',
    description:
      'By the code that the platform printed at its start and keeps in `bootstrap/claim-code`. Makes the account, or takes the one that has this e-mail and password; it becomes an administrator of the platform and the owner of its first team. The code is good once. ' +
      secondFactorWords,
    body: ClaimPlatform,
    replies: { 201: SignedIn, 202: SecondFactorNeeded },
    errors: [401, 403, 409, 429],
  },
  logIn: {
    tag,
    access: byAnyone,
    isForOwnPages: true,
    method: 'POST',
    path: '/v1/auth/login',
    summary: 'Log in',
    description: secondFactorWords,
    body: LogIn,
    replies: { 200: SignedIn, 202: SecondFactorNeeded },
    errors: [401, 403, 429],
  },
  completeLogIn: {
    tag,
    access: byAnyone,
    isForOwnPages: true,
    method: 'POST',
    path: '/v1/auth/second-factor',
    summary: 'Finish a log-in by the second factor',
    description:
      'A code is taken once. After ten wrong ones within fifteen minutes the account takes none until they are over; a challenge outlives a wrong code.',
    body: CompleteLogIn,
    replies: { 200: SignedIn },
    errors: [401, 403, 429],
  },
  refreshSession: {
    tag,
    access: byAnyone,
    method: 'POST',
    path: '/v1/auth/refresh',
    summary: 'Renew the access token',
    description: `Uses the refresh token up and gives the next. One that was used before ends the session, as it may be stolen; within a few seconds it is refused with 409 alone, for tabs that refresh at once: try again with the new cookie. ${cookieWords}`,
    body: RefreshSession,
    isBodyOptional: true,
    replies: { 200: SignedIn },
    errors: [401, 403, 409],
  },
  logOut: {
    tag,
    access: byAnyone,
    method: 'POST',
    path: '/v1/auth/logout',
    summary: 'End the session of a refresh token',
    description: `A token that is not good any more is no error. ${cookieWords}`,
    body: RefreshSession,
    isBodyOptional: true,
    replies: { 204: null },
    errors: [401, 403],
  },
  logOutAll: {
    tag,
    access: byUser,
    method: 'POST',
    path: '/v1/auth/logout-all',
    summary: 'End all of your sessions',
    replies: { 204: null },
  },
  requestVerification: {
    tag,
    access: byUser,
    method: 'POST',
    path: '/v1/auth/verify-email/request',
    summary: 'Ask for a link that verifies your e-mail address',
    description: `Signing up sends one by itself. Nothing is sent when the address is verified. ${linkWords}`,
    replies: { 204: null },
    errors: [429],
  },
  verifyEmail: {
    tag,
    access: byAnyone,
    method: 'POST',
    path: '/v1/auth/verify-email',
    summary: 'Verify an e-mail address by its link',
    description: 'The token is what the link has after its "#".',
    body: VerifyEmail,
    replies: { 204: null },
    errors: [401, 429],
  },
  switchTeam: {
    tag,
    access: byUser,
    method: 'POST',
    path: '/v1/auth/switch-team',
    summary: 'Go on in another team',
    description: 'Gives an access token for a team that you are a member of. Refreshing stays in it.',
    body: SwitchTeam,
    replies: { 200: SignedIn },
    errors: [404],
  },
} as const satisfies RouteTable;

export const SecondFactor = component(
  'SecondFactor',
  Type.Object({
    enabled_at: timestamp,
    recovery_codes_left: Type.Integer({ description: 'Recovery codes that were not used.' }),
  }),
);

export const Me = component(
  'Me',
  Type.Object({
    ...User.properties,
    has_password: Type.Boolean(),
    second_factor: nullable(SecondFactor),
    team: nullable(SessionTeam),
  }),
);
export type Me = Static<typeof Me>;

export const UpdateMe = component('UpdateMe', Type.Object({ name: displayName }, closed));

export const ChangePassword = component(
  'ChangePassword',
  Type.Object(
    {
      current_password: Type.Optional(
        Type.String({ minLength: 1, maxLength: 256, description: 'Needed when there is one.' }),
      ),
      new_password: newPassword,
      code: Type.Optional(secondFactorCode),
    },
    closed,
  ),
);

export const RequestPasswordReset = component('RequestPasswordReset', Type.Object({ email }, closed));

export const ConfirmPasswordReset = component(
  'ConfirmPasswordReset',
  Type.Object({ token: secret, new_password: newPassword }, closed),
);

export const UserSession = component(
  'UserSession',
  Type.Object({
    id: wireId('session'),
    is_current: Type.Boolean(),
    user_agent: Type.String(),
    ip_address: Type.String(),
    created_at: timestamp,
    last_seen_at: timestamp,
    expires_at: timestamp,
  }),
);
export type UserSession = Static<typeof UserSession>;

export const UserSessionItems = component('UserSessionItems', Type.Object({ items: Type.Array(UserSession) }));

/** A signed-in person's own account. */
export const meRoutes = {
  getMe: {
    tag,
    access: byUser,
    method: 'GET',
    path: '/v1/me',
    summary: 'Get your account',
    replies: { 200: Me },
  },
  updateMe: {
    tag,
    access: byUser,
    method: 'PATCH',
    path: '/v1/me',
    summary: 'Change your name',
    body: UpdateMe,
    replies: { 200: Me },
  },
  changePassword: {
    tag,
    access: byUser,
    method: 'POST',
    path: '/v1/me/password',
    summary: 'Change or set your password',
    description: 'Ends your other sessions. With a second factor it needs `code` as well.',
    body: ChangePassword,
    replies: { 204: null },
    errors: [429],
  },
  requestPasswordReset: {
    tag,
    access: byAnyone,
    method: 'POST',
    path: '/v1/me/password/reset',
    summary: 'Ask for a link that sets a new password',
    description: `The answer is the same whether the address is somebody's or not. ${linkWords}`,
    body: RequestPasswordReset,
    replies: { 204: null },
    errors: [429],
  },
  confirmPasswordReset: {
    tag,
    access: byAnyone,
    method: 'POST',
    path: '/v1/me/password/reset/confirm',
    summary: 'Set a new password by a link',
    description:
      'Also for an account that has none yet. Ends all of its sessions; log in again then. Of an account whose address was not verified before, a link that came by mail also verifies it, revokes the keys that the account has made and takes its passkeys and linked identities away: it may have been somebody else who did. The token is what the link has after its "#".',
    body: ConfirmPasswordReset,
    replies: { 204: null },
    errors: [401, 429],
  },
  listMySessions: {
    tag,
    access: byUser,
    method: 'GET',
    path: '/v1/me/sessions',
    summary: 'List your sessions',
    description: 'Newest first. There are at most 100: a further log-in ends the oldest.',
    replies: { 200: UserSessionItems },
  },
  revokeMySession: {
    tag,
    access: byUser,
    method: 'DELETE',
    path: '/v1/me/sessions/{id}',
    summary: 'End one of your sessions',
    params: Type.Object({ id: wireId('session') }),
    replies: { 204: null },
  },
} as const satisfies RouteTable;
