import { randomUUID } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorText } from '@aviary/core';
import { FileLock } from '@aviary/linux/file-lock';

/** What somebody shows to a server: an API key, or what a log-in gave. */
export type Credential =
  | { type: 'api_key'; apiKey: string }
  | { type: 'session'; email: string; accessToken: string; accessTokenExpiresAt: string; refreshToken: string };

/** One server and how to be known there. */
export interface Profile {
  apiUrl: string;
  credential: Credential;
}

export interface Profiles {
  /** The one that is used when none is named; null when there is none. */
  current: string | null;
  profiles: Record<string, Profile>;
}

const lockTimeoutMs = 30_000;
const none: Profiles = { current: null, profiles: {} };

/** Where profiles are: of the user, not of a platform. Undefined where there is no home. */
export function profilesFile(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const base = env['XDG_CONFIG_HOME'] || (env['HOME'] && path.join(env['HOME'], '.config'));
  return base ? path.join(base, 'aviary', 'config.json') : undefined;
}

/** Where profiles are, for who needs a place for them. Throws `invalid_request` where there is none. */
export function requireProfilesFile(env: Readonly<Record<string, string | undefined>>): string {
  const file = profilesFile(env);
  if (file !== undefined) return file;
  throw new AppError('invalid_request', 'there is no place for profiles; set HOME or XDG_CONFIG_HOME');
}

/** What the file holds; nothing when it is not there. Throws `invalid_request` when it cannot be read, or others can read it. */
export function readProfiles(file: string): Profiles {
  let text: string;
  try {
    const { mode } = statSync(file);
    if ((mode & 0o077) !== 0) {
      throw new AppError('invalid_request', `others can read ${file}, which holds secrets; run 'chmod 600 ${file}'`);
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return none;
    if (error instanceof AppError) throw error;
    throw new AppError('invalid_request', `cannot read ${file}: ${errorText(error)}`, { cause: error });
  }
  try {
    const { current = null, profiles } = JSON.parse(text) as Partial<Profiles>;
    if (typeof profiles !== 'object' || profiles === null) throw new Error('it names no profiles');
    return { current, profiles };
  } catch (cause) {
    const message = `${file} is damaged (${errorText(cause)}); mend it, or remove it and log in again`;
    throw new AppError('invalid_request', message, { cause });
  }
}

/** Replaces the file whole, for its owner alone: a reader finds the old or the new one. */
export async function writeProfiles(file: string, profiles: Profiles): Promise<void> {
  const directory = path.dirname(file);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await chmod(directory, 0o700);
  const draft = `${file}.${randomUUID()}`;
  try {
    await writeFile(draft, `${JSON.stringify(profiles, null, 2)}\n`, { mode: 0o600, flush: true });
    await rename(draft, file);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

/** The right to change the file, which one process has at a time; who has it reads what is there before changing it. */
export async function lockProfiles(file: string, signal: AbortSignal): Promise<Disposable> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const lock = await FileLock.acquire(`${file}.lock`, { timeoutMs: lockTimeoutMs, signal });
  if (!lock) throw new AppError('conflict', `another aviary holds ${file}.lock for too long; try again`);
  return lock;
}

/** Puts one profile in. The current one stays, unless this is to be it. Under the lock. */
export async function putProfile(
  file: string,
  name: string,
  profile: Profile,
  { isCurrent = false }: { isCurrent?: boolean } = {},
): Promise<void> {
  const { current, profiles } = readProfiles(file);
  await writeProfiles(file, { current: isCurrent ? name : current, profiles: { ...profiles, [name]: profile } });
}

/** Takes one profile out, and resolves with what is left. Under the lock. */
export async function removeProfile(file: string, name: string): Promise<Profiles> {
  const { current, profiles } = readProfiles(file);
  const { [name]: _removed, ...others } = profiles;
  const left = { current: current === name ? null : current, profiles: others };
  await writeProfiles(file, left);
  return left;
}

/** What to do when the profile in use is gone and there are others; undefined when one is in use, or there are none. */
export function nextProfileAdvice({ current, profiles }: Profiles): string | undefined {
  const names = Object.keys(profiles);
  if (current !== null || names.length === 0) return undefined;
  return `no profile is in use now; 'aviary profile use NAME' goes on with one of: ${names.join(', ')}`;
}

/** The profile that is used: the named one, or the current one. Throws `not_found` for a name that there is not. */
export function chooseProfile(
  { current, profiles }: Profiles,
  name: string | undefined,
): { name: string; profile: Profile } | undefined {
  const chosen = name ?? current;
  if (chosen === null || chosen === undefined) return undefined;
  const profile = Object.hasOwn(profiles, chosen) ? profiles[chosen] : undefined;
  if (profile) return { name: chosen, profile };
  if (name === undefined) return undefined;
  const known = Object.keys(profiles).join(', ') || 'none';
  throw new AppError(
    'not_found',
    `there is no profile ${JSON.stringify(name)} (there are: ${known}); 'AVIARY_PROFILE=${name} aviary login' makes it`,
  );
}
