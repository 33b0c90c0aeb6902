import type { Me, SessionTeam, User } from '@aviary/api-contract';
import { formatId } from '@aviary/core';
import type { SecondFactorStatus } from '../second-factors/second-factor-store.ts';
import type { Account, Membership } from './account-store.ts';

export function viewUser(account: Account): User {
  return {
    id: formatId('user', account.id),
    email: account.email,
    email_verified: account.email_verified_at !== null,
    name: account.name,
    is_admin: account.is_admin,
    created_at: account.created_at.toISOString(),
  };
}

export function viewSessionTeam(membership: Membership | undefined): SessionTeam | null {
  return membership ? { id: formatId('team', membership.teamId), name: membership.name, role: membership.role } : null;
}

export function viewSecondFactor(factor: SecondFactorStatus | undefined): Me['second_factor'] {
  if (!factor) return null;
  return { enabled_at: factor.confirmed_at.toISOString(), recovery_codes_left: factor.recovery_codes_left };
}
