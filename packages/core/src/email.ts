import { AppError } from './errors.ts';

export const emailLimits = { minLength: 3, maxLength: 254 } as const;

/** An e-mail address: as its owner writes it, and what it is compared by. */
export interface Email {
  address: string;
  /** Two addresses are one when their keys are. */
  key: string;
}

/**
 * One "@" between two parts, without spaces and without what cannot be seen. A name in quotes, or with what stands between addresses in a
 * mail's header, is another way to write an address, or more than one.
 */
const addressPattern = /^[^\s@"(),:;<>[\\\]\p{C}\p{Z}]{1,64}@[^\s@\p{C}\p{Z}]+$/u;

/**
 * Reads an address: trimmed, NFKC; its key is in lower case, its domain as the DNS has it. So a full-width "Ａ", a capital one and a small
 * one are the same person, as are "bücher" and "xn--bcher-kva", and nobody signs up beside an account with an address that looks like it,
 * or whose mail comes to the same mailbox. Throws `invalid_request`.
 */
export function parseEmail(text: string, field = 'email'): Email {
  const address = text.trim().normalize('NFKC');
  const [name = '', domain = ''] = address.toLowerCase().normalize('NFKC').split('@');
  const key = `${name}@${asciiDomain(domain) ?? ''}`;
  if (!addressPattern.test(address) || !addressPattern.test(key) || key.length > emailLimits.maxLength) {
    throw new AppError('invalid_request', `${field} must be an e-mail address`, { details: { field } });
  }
  return { address, key };
}

/** The name of a host as the DNS has it (UTS 46, which URLs follow); undefined for what can be none. */
function asciiDomain(domain: string): string | undefined {
  if (/[/:?#%[\]]/.test(domain) || domain.endsWith('.')) return undefined;
  const name = URL.parse(`http://${domain}`)?.hostname;
  return name?.endsWith('.') ? undefined : name;
}
