import type { KeyScope, TeamRole } from '@aviary/core';

/** Who may call a route. The server lets nobody else in, and the document says it; a handler need not look again. */
export type RouteAccess =
  /** Anybody. */
  | { by: 'anyone' }
  /** A host agent, by its token. */
  | { by: 'host' }
  /** A person who has signed in, for what is their own. */
  | { by: 'user' }
  /** A person who looks after the platform. */
  | { by: 'platform_admin' }
  | TeamAccess;

/** A team: by its API key, or by one of its members who has signed in. */
export interface TeamAccess {
  by: 'team';
  /** What a key must be for; null where only people may. */
  keyScope: Exclude<KeyScope, 'read'> | 'any' | null;
  /** The lowest role that a member must have. */
  role: TeamRole;
  /** Which team: the one that the credential is for, or the path's `{team_id}`. */
  team: 'credential' | 'path';
}

export const byAnyone = { by: 'anyone' } as const satisfies RouteAccess;
export const byHost = { by: 'host' } as const satisfies RouteAccess;
export const byUser = { by: 'user' } as const satisfies RouteAccess;
export const byPlatformAdmin = { by: 'platform_admin' } as const satisfies RouteAccess;

/** A key that is for `keyScope`, or any member. */
export const byTeam = (keyScope: Exclude<KeyScope, 'read'> | 'any') =>
  ({ by: 'team', keyScope, role: 'member', team: 'credential' }) as const satisfies TeamAccess;

/** A member of the credential's team who has at least `role`; no key. */
export const byMember = (role: TeamRole = 'member') =>
  ({ by: 'team', keyScope: null, role, team: 'credential' }) as const satisfies TeamAccess;

/** A member of the team that the path names, with at least `role`; no key. */
export const byMemberOfPath = (role: TeamRole = 'member') =>
  ({ by: 'team', keyScope: null, role, team: 'path' }) as const satisfies TeamAccess;
