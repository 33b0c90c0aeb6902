import { hash, randomBytes } from 'node:crypto';

/** SHA-256 in hex: how tokens and keys are stored, which are random and long enough to need no salt. */
export function sha256Hex(text: string): string {
  return hash('sha256', text);
}

/** `prefix` and 160 random bits in hex. */
export function newSecret(prefix: string): string {
  return prefix + randomBytes(20).toString('hex');
}
