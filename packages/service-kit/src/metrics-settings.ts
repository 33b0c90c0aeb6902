import { AppError } from '@aviary/core';
import type { EnvReader } from './env-config.ts';

/** Where a process tells its metrics, and to whom. */
export interface MetricsSettings {
  host: string;
  port: number;
  /** What a reader sends as a bearer token; undefined: whoever reaches the address may read, which is this machine alone. */
  token: string | undefined;
}

const minTokenLength = 16;

/**
 * Reads `PREFIX_ADDRESS` (`9464`, `127.0.0.1:9464`, `[::1]:9464`; a bare port is of loopback) and `PREFIX_TOKEN`. Undefined without an
 * address: nothing listens then. Throws `invalid_request` naming the variable; an address that other machines reach needs a token.
 */
export function readMetricsSettings(reader: EnvReader, prefix: string): MetricsSettings | undefined {
  const text = reader.optional(`${prefix}_ADDRESS`);
  if (text === undefined) return undefined;
  const field = `${prefix}_ADDRESS`;
  const address = parseAddress(text);
  if (!address) throw refuse(field, `${field} must be a port or an address such as 127.0.0.1:9464`);
  const token = reader.optional(`${prefix}_TOKEN`);
  if (token !== undefined && token.length < minTokenLength)
    throw refuse(`${prefix}_TOKEN`, `${prefix}_TOKEN must have at least ${minTokenLength} characters`);
  if (token === undefined && !isLoopback(address.host))
    throw refuse(`${prefix}_TOKEN`, `${field} can be reached from other machines: set ${prefix}_TOKEN as well`);
  return { ...address, token };
}

function parseAddress(text: string): { host: string; port: number } | undefined {
  const match = /^(?:(?<host>[\w.-]+|\[[\da-fA-F:.]+\]):)?(?<port>\d{1,5})$/.exec(text);
  const port = Number(match?.groups?.['port']);
  if (!match || port > 65_535) return undefined;
  return { host: (match.groups?.['host'] ?? '127.0.0.1').replaceAll(/[[\]]/g, ''), port };
}

/** Whether `host` is this machine's alone. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function refuse(field: string, message: string): AppError {
  return new AppError('invalid_request', message, { details: { field } });
}
