import { randomBytes } from 'node:crypto';
import { sha256Hex } from '../secrets.ts';

const codeCount = 10;
/** RFC 4648's base32 in small letters: no digit that looks like a letter. */
const alphabet = 'abcdefghijklmnopqrstuvwxyz234567';
const codeLength = 16;

/** New codes as they are shown, `abcd-efgh-ijkl-mnop`: of 80 random bits, so that a plain hash of one gives it away to nobody. */
export function newRecoveryCodes(): string[] {
  return Array.from({ length: codeCount }, () => {
    const letters = [...randomBytes(codeLength)].map((byte) => alphabet[byte % alphabet.length]);
    return letters.join('').replaceAll(/(.{4})(?!$)/g, '$1-');
  });
}

/** By what a code is kept and found, however it is typed. Undefined for what is none. */
export function hashRecoveryCode(typed: string): string | undefined {
  const code = typed.toLowerCase().replaceAll(/[\s-]/g, '');
  return new RegExp(`^[${alphabet}]{${codeLength}}$`).test(code) ? sha256Hex(code) : undefined;
}
