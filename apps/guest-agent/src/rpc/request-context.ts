import { AppError } from '@aviary/core';
import type { SandboxSettings } from '../sandbox-settings.ts';
import type { GuestUser, UserDatabase } from '../users/user-database.ts';

const defaultKeepaliveMs = 90_000;
const minKeepaliveMs = 1_000;

/** The user a call names by `Authorization: Basic base64("user:")`, else the sandbox's default. Throws `unauthorized`. */
export function callUser(headers: Headers, users: UserDatabase, settings: SandboxSettings): GuestUser {
  const authorization = headers.get('authorization');
  if (authorization === null) return users.user(settings.defaultUser);
  const encoded = /^basic\s+([A-Za-z0-9+/=]*)$/i.exec(authorization)?.[1];
  if (encoded === undefined) throw new AppError('unauthorized', 'Authorization must be Basic with "user:" in base64');
  const credentials = Buffer.from(encoded, 'base64').toString('utf8');
  // The password after the last colon is empty; one before it is part of `UID:GID`.
  const name = credentials.includes(':') ? credentials.slice(0, credentials.lastIndexOf(':')) : credentials;
  return users.user(name || settings.defaultUser);
}

/** How often a stream without news says that it lives: `Keepalive-Ping-Interval` seconds, default 90. */
export function keepaliveMs(headers: Headers): number {
  const seconds = Number(headers.get('keepalive-ping-interval') ?? Number.NaN);
  return Number.isFinite(seconds) && seconds > 0
    ? Math.min(Math.max(seconds * 1_000, minKeepaliveMs), 3_600_000)
    : defaultKeepaliveMs;
}
