import type { ServiceContext } from '../context.ts';
import type { SigningKey } from '../hosts/signing-key.ts';
import type { Mailer } from '../mail/mailer.ts';
import { AttemptLimit } from './attempt-limit.ts';
import { type PasswordCost, PasswordHasher } from './password-hash.ts';

/** How accounts are set up by who runs the platform. */
export interface AccountSettings {
  /** Where people reach the platform: for links, the cookie's `Secure`, and which origins are ours. */
  publicUrl: URL;
  passwordCost: PasswordCost;
}

/** What accounts need beside the store. */
export interface AccountServices {
  settings: AccountSettings;
  hasher: PasswordHasher;
  attempts: AttemptLimit;
}

export type AccountDeps = Pick<ServiceContext, 'database' | 'clock' | 'logger'> & {
  signingKey: SigningKey;
  accounts: AccountServices;
  mailer: Pick<Mailer, 'queue'>;
};

export function createAccountServices(
  { clock }: Pick<ServiceContext, 'clock'>,
  settings: AccountSettings,
): AccountServices {
  return { settings, hasher: new PasswordHasher(settings.passwordCost), attempts: new AttemptLimit({ clock }) };
}
