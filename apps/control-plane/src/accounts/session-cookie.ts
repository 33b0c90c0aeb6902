import { AppError } from '@aviary/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { readCookie, setCookie } from '../http/cookies.ts';
import { foreignPage, readPageOrigin } from '../http/page-origin.ts';
import type { AccountSettings } from './account-deps.ts';
import type { Device, IssuedSession } from './open-session.ts';

/** No page of a host below ours can set it (`__Host-`), and so put its visitor into a session of its own; a cookie of that kind is for all paths. */
const cookieOf = ({ publicUrl }: AccountSettings) =>
  publicUrl.protocol === 'https:'
    ? { name: '__Host-aviary_refresh', path: '/', isSecure: true }
    : { name: 'aviary_refresh', path: '/v1/auth', isSecure: false };
const maxAgeSec = 90 * 24 * 3600;
const maxUserAgentLength = 256;

/** The answer of a log-in, with its refresh token where the client wants it. */
export function deliver(
  settings: AccountSettings,
  reply: FastifyReply,
  { answer, refreshToken, to }: IssuedSession & { to: 'cookie' | 'body' },
): IssuedSession['answer'] {
  if (to === 'body') return { ...answer, refresh_token: refreshToken };
  writeCookie(settings, reply, { value: refreshToken, maxAgeSec });
  return answer;
}

/** The refresh token of a request, from its body or its cookie, which is taken from our own pages alone. Throws `unauthorized` when there is none. */
export function readRefreshToken(
  settings: AccountSettings,
  request: FastifyRequest,
  inBody: string | undefined,
): { token: string; to: 'cookie' | 'body' } {
  if (inBody !== undefined) return { token: inBody, to: 'body' };
  const token = readCookie(request, cookieOf(settings).name);
  if (token === undefined) {
    throw new AppError('unauthorized', 'this needs the cookie of a log-in, or refresh_token in the body');
  }
  if (readPageOrigin(settings.publicUrl, request) !== 'own') throw foreignPage();
  return { token, to: 'cookie' };
}

export function clearCookie(settings: AccountSettings, reply: FastifyReply): void {
  writeCookie(settings, reply, { value: '', maxAgeSec: 0 });
}

function writeCookie(
  settings: AccountSettings,
  reply: FastifyReply,
  value: { value: string; maxAgeSec: number },
): void {
  const { name, ...cookie } = cookieOf(settings);
  setCookie(reply, name, { ...cookie, ...value, sameSite: 'Strict' });
}

export function readDevice(request: FastifyRequest): Device {
  const userAgent = (request.headers['user-agent'] ?? '').replaceAll('\0', '').slice(0, maxUserAgentLength);
  return { userAgent, ipAddress: request.ip };
}
