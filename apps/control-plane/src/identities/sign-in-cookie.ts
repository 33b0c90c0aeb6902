import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AccountSettings } from '../accounts/account-deps.ts';
import { readCookie, setCookie } from '../http/cookies.ts';
import { signInMs } from './start-sign-in.ts';

/**
 * Tells the browser that began a sign-in, so that nobody is signed in to an account of somebody else's choice. It comes along from the provider's
 * pages (Lax), and no page of a host below ours can set it (`__Host-`), as sandboxes serve theirs there.
 */
const cookieName = ({ publicUrl }: AccountSettings) =>
  publicUrl.protocol === 'https:' ? '__Host-aviary_sign_in' : 'aviary_sign_in';

export function readSignInCookie(settings: AccountSettings, request: FastifyRequest): string | undefined {
  return readCookie(request, cookieName(settings));
}

/** Sets the cookie; without `value` takes it away. */
export function writeSignInCookie(settings: AccountSettings, reply: FastifyReply, value?: string): void {
  setCookie(reply, cookieName(settings), {
    value: value ?? '',
    maxAgeSec: value === undefined ? 0 : signInMs / 1000,
    path: '/',
    isSecure: settings.publicUrl.protocol === 'https:',
    sameSite: 'Lax',
  });
}
