import type { Route, RouteAccess } from '@aviary/api-contract';
import type { ApiKeyId, HostId, SessionId, TeamId, TeamRole, UserId } from '@aviary/core';
import type { FastifyRequest } from 'fastify';
import type { Actor } from '../context.ts';

/** Who calls, by whom the route lets in. */
export interface Callers extends Record<RouteAccess['by'], unknown> {
  anyone: undefined;
  host: { hostId: HostId };
  user: UserCaller;
  platform_admin: UserCaller;
  team: TeamCaller;
}

/** A person who has signed in. */
export interface UserCaller {
  userId: UserId;
  sessionId: SessionId;
  /** The team that the session's access token is for. */
  currentTeamId: TeamId | null;
  email: string;
  name: string;
  isAdmin: boolean;
  actor: Actor;
}

/** A team, and by what it calls. */
export interface TeamCaller {
  teamId: TeamId;
  actor: Actor;
  via: { type: 'api_key'; keyId: ApiKeyId } | { type: 'user'; user: UserCaller; role: TeamRole };
}

/** A member of a team who has signed in: who calls a route that no key may. */
export interface MemberCaller extends TeamCaller {
  via: Extract<TeamCaller['via'], { type: 'user' }>;
}

/** Who calls a route with that `access`: what the table leaves out, no handler need rule out. */
export type CallerOf<A extends RouteAccess> = A extends { by: 'team'; keyScope: null }
  ? MemberCaller
  : Callers[A['by']];

/** Finds out who calls a route, as its `access` asks. Throws `unauthorized`, `forbidden`, or `not_found` for a team that is not the caller's. */
export type Authenticate = (
  route: Route,
  request: FastifyRequest,
  /** When the caller came, if not now: a token that was good then stays good for what it opened. */
  options?: { cameAt?: Date },
) => Promise<Callers[RouteAccess['by']]>;

/** A key that was good when it was last looked up. Whether it still is, only the database says. */
export interface RecalledKey {
  id: ApiKeyId;
  /** Who calls, if it is still good. */
  caller: TeamCaller;
  /** Called once it has turned out to be good. */
  noteUse(): void;
}

/** Recalls the key of a request to a route that it may call; undefined when it must be looked up. */
export type RecallKey = (route: Route, request: FastifyRequest) => RecalledKey | undefined;
