import { AppError } from '@aviary/core';

/** What the host tells a sandbox after boot and after every restore. */
export interface InitRequest {
  hostTokenSha256?: string;
  accessToken: string;
  timestampMs: number;
  entropy: Buffer;
  hostname: string;
  machineId: string;
  envVars?: Record<string, string>;
  defaultUser?: string;
  defaultWorkdir?: string;
  /** Let frozen user processes go on when all is done. */
  thaw: boolean;
}

const minEntropyBytes = 32;
const maxEntropyBytes = 512;

/** Reads the body of `/init`. Throws `invalid_request` that names the field. */
export function parseInitRequest(body: Record<string, unknown>): InitRequest {
  const text = (field: string, pattern: RegExp): string => {
    const value = body[field];
    if (typeof value !== 'string' || !pattern.test(value))
      throw invalid(field, `must be a string that matches ${pattern.source}`);
    return value;
  };
  const optionalText = (field: string, pattern: RegExp) =>
    body[field] === undefined || body[field] === null || body[field] === '' ? undefined : text(field, pattern);
  const timestampMs = body['timestampMs'];
  if (typeof timestampMs !== 'number' || !Number.isSafeInteger(timestampMs) || timestampMs < 0) {
    throw invalid('timestampMs', 'must be whole Unix milliseconds');
  }
  const entropy = Buffer.from(text('entropyBase64', /^[A-Za-z0-9+/]+={0,2}$/), 'base64');
  if (entropy.length < minEntropyBytes || entropy.length > maxEntropyBytes) {
    throw invalid('entropyBase64', `must hold ${minEntropyBytes} to ${maxEntropyBytes} bytes`);
  }
  const hostTokenSha256 = optionalText('hostTokenSha256', /^[0-9a-fA-F]{64}$/);
  const defaultUser = optionalText('defaultUser', /^[A-Za-z0-9._-]{1,32}(?::[A-Za-z0-9._-]{1,32})?$/);
  const defaultWorkdir = optionalText('defaultWorkdir', /^\/[^\0]*$/);
  const envVars = parseVariables(body['envVars']);
  return {
    accessToken: text('accessToken', /^[\x21-\x7e]{1,512}$/),
    timestampMs,
    entropy,
    hostname: text('hostname', /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$/),
    machineId: text('machineId', /^[0-9a-f]{32}$/),
    thaw: body['thaw'] === true,
    ...(hostTokenSha256 === undefined ? {} : { hostTokenSha256 }),
    ...(defaultUser === undefined ? {} : { defaultUser }),
    ...(defaultWorkdir === undefined ? {} : { defaultWorkdir }),
    ...(envVars === undefined ? {} : { envVars }),
  };
}

function parseVariables(value: unknown): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw invalid('envVars', 'must be an object of strings');
  const variables: Record<string, string> = {};
  for (const [name, text] of Object.entries(value)) {
    if (typeof text !== 'string' || text.includes('\0') || !/^[^=\0]+$/.test(name)) {
      throw invalid(
        'envVars',
        `holds ${JSON.stringify(name)}, which is not a name and a string that an environment can hold`,
      );
    }
    variables[name] = text;
  }
  return variables;
}

function invalid(field: string, why: string): AppError {
  return new AppError('invalid_request', `${field} ${why}`, { details: { field } });
}
