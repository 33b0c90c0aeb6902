import type { AccountDeps } from '../accounts/account-deps.ts';
import type { IdentityProviders } from './identity-providers.ts';

export type IdentityDeps = AccountDeps & { identityProviders: IdentityProviders };

/** Where people can sign in now: what counts as a way in. */
export function issuersOf({ all }: IdentityProviders): string[] {
  return all.map(({ issuer }) => issuer);
}
