import { createHash, randomBytes } from 'node:crypto';

/** SHA-256 in hex: how tokens and keys are stored, which are random and long enough to need no salt. */
export function sha256Hex(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** `prefix` and 160 random bits in hex. */
export function newSecret(prefix: string): string {
  return prefix + randomBytes(20).toString('hex');
}
