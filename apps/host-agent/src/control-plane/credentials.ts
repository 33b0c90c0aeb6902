import { readFile } from 'node:fs/promises';
import { AppError, errorText } from '@aviary/core';
import { writeDurableFile } from '@aviary/service-kit';
import type { JWK } from 'jose';

/** What makes this machine a host: from registration, renewed by refresh. The file is readable by its owner alone. */
export interface HostCredentials {
  /** `host-…` */
  host_id: string;
  token: string;
  token_expires_at: string;
  refresh_token: string;
  control_plane_public_key: JWK;
  epoch: number;
}

/** The stored credentials, or undefined when the host was never registered. Throws when the file is damaged. */
export async function readCredentials(file: string): Promise<HostCredentials | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return parseCredentials(JSON.parse(text));
  } catch (error) {
    throw new AppError(
      'integrity',
      `${file} is damaged (${errorText(error)}); remove it and register the host again with a new token`,
      { cause: error },
    );
  }
}

export async function writeCredentials(file: string, credentials: HostCredentials): Promise<void> {
  await writeDurableFile(file, JSON.stringify(credentials));
}

/** Reads the answer of registration and refresh. */
export function parseCredentials(value: unknown): HostCredentials {
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  for (const name of ['host_id', 'token', 'token_expires_at', 'refresh_token']) {
    if (typeof fields[name] !== 'string') throw new AppError('invalid_request', `credentials lack ${name}`);
  }
  if (typeof fields['control_plane_public_key'] !== 'object')
    throw new AppError('invalid_request', 'credentials lack control_plane_public_key');
  parseEpoch(fields['epoch']);
  return value as HostCredentials;
}

/** How often this host was registered, as the control plane counts: nothing but a whole number is one. */
export function parseEpoch(value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new AppError('invalid_request', 'epoch must be a whole number');
}
