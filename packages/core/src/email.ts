import { AppError } from './errors.ts';

export const emailLimits = { minLength: 3, maxLength: 254 } as const;

/** An e-mail address: as its owner writes it, and what it is compared by. */
export interface Email {
  address: string;
  /** Two addresses are one when their keys are. */
  key: string;
}

/** One "@" between two parts, without spaces, and without what cannot be seen. */
const addressPattern = /^[^\s@\p{C}\p{Z}]{1,64}@[^\s@\p{C}\p{Z}]+$/u;

/**
 * Reads an address: trimmed, NFKC; its key is in lower case. So a full-width "Ａ", a capital one and a small one are the same person, and
 * nobody signs up beside an account with an address that looks like it. Throws `invalid_request`.
 */
export function parseEmail(text: string, field = 'email'): Email {
  const address = text.trim().normalize('NFKC');
  const key = address.toLowerCase().normalize('NFKC');
  if (!addressPattern.test(address) || !addressPattern.test(key) || key.length > emailLimits.maxLength) {
    throw new AppError('invalid_request', `${field} must be an e-mail address`, { details: { field } });
  }
  return { address, key };
}
