import type { Route, TeamAccess } from '@aviary/api-contract';
import { AppError, hasRole, keyAllows, parseId, type TeamId } from '@aviary/core';
import type { FastifyRequest } from 'fastify';
import { findApiKey } from '../api-keys/api-key-store.ts';
import type { KeyUses } from '../api-keys/key-uses.ts';
import type { ServiceContext } from '../context.ts';
import type { SigningKey } from '../hosts/signing-key.ts';
import type { Authenticate, Callers, RecallKey, TeamCaller, UserCaller } from '../http/register-routes.ts';
import type { KeyFacts, KnownKeys } from './known-keys.ts';
import { findSessionUser, type SessionUser } from './session-store.ts';

type Deps = Pick<ServiceContext, 'database' | 'clock'> & {
  signingKey: SigningKey;
  keyUses: KeyUses;
  knownKeys: KnownKeys;
};

/** A request, and when it came. */
interface Asked {
  request: FastifyRequest;
  cameAt: Date;
}

/** Tells who calls, and whether the route is for them, as its `access` says. What a credential says of its owner is looked up. */
export function createAuthenticate(deps: Deps): Authenticate {
  return (route, request, { cameAt = new Date(deps.clock.now()) } = {}) =>
    authenticate(deps, route, { request, cameAt });
}

/** Tells who calls by a key that was good before, without a look at the database: who uses it asks there whether it still is. */
export function createRecallKey({ knownKeys, keyUses }: Pick<Deps, 'knownKeys' | 'keyUses'>): RecallKey {
  return ({ access, method, frames }, request) => {
    if (access.by !== 'team' || access.team !== 'credential' || access.keyScope === null) return undefined;
    const key = readKey(request);
    const facts = key === undefined ? undefined : knownKeys.get(key);
    if (!facts || !keyAllows(facts.scopes, { scope: access.keyScope, isRead: method === 'GET' && !frames }))
      return undefined;
    return {
      id: facts.id,
      caller: keyCaller(facts),
      noteUse: () => keyUses.noteUse(facts.id),
    };
  };
}

async function authenticate(deps: Deps, route: Route, asked: Asked): Promise<Callers[Route['access']['by']]> {
  const { access } = route;
  switch (access.by) {
    case 'anyone':
      return undefined;
    case 'host':
      return { hostId: await deps.signingKey.verifyHostToken(readHeader(asked.request, 'x-host-token')) };
    case 'user':
      return userCaller(await readSession(deps, asked));
    case 'platform_admin': {
      const user = await readSession(deps, asked);
      if (!user.isAdmin) throw new AppError('forbidden', 'this is for administrators of the platform');
      return userCaller(user);
    }
    case 'team':
      return teamCaller(deps, { access, isRead: route.method === 'GET' && !route.frames }, asked);
  }
}

async function teamCaller(
  deps: Deps,
  { access, isRead }: { access: TeamAccess; isRead: boolean },
  asked: Asked,
): Promise<TeamCaller> {
  const key = readKey(asked.request);
  if (key === undefined) return memberCaller(deps, access, asked);
  const owner = await findApiKey(deps.database.db, key, new Date(deps.clock.now()));
  if (!owner) throw new AppError('unauthorized', 'the API key is not valid; send one that is in X-API-Key');
  if (owner.refusal) {
    deps.keyUses.noteRefusal(owner, owner.refusal);
    const words = owner.refusal === 'revoked' ? 'was revoked' : 'has expired';
    throw new AppError('unauthorized', `the API key ${words}; send another one in X-API-Key`);
  }
  deps.keyUses.noteUse(owner.id);
  deps.knownKeys.remember(key, owner);
  if (access.keyScope === null) {
    throw new AppError('forbidden', 'an API key cannot do this: a member of the team does it, who has logged in');
  }
  if (access.team === 'path' && pathTeam(asked.request) !== owner.teamId) throw noSuchTeam();
  if (!keyAllows(owner.scopes, { scope: access.keyScope, isRead })) {
    throw new AppError(
      'forbidden',
      `this API key is for ${owner.scopes.join(' and ')}; this needs ${access.keyScope}`,
      {
        details: { scopes: owner.scopes, needed: access.keyScope },
      },
    );
  }
  return keyCaller(owner);
}

function keyCaller({ id, teamId, name }: KeyFacts): TeamCaller {
  return { teamId, actor: { type: 'api_key', id, name }, via: { type: 'api_key', keyId: id } };
}

async function memberCaller(deps: Deps, access: TeamAccess, asked: Asked): Promise<TeamCaller> {
  const user = await readSession(deps, asked, access.team === 'path' ? pathTeam : undefined);
  if (access.team === 'path' && !user.role) throw noSuchTeam();
  if (!user.teamId || !user.role) {
    throw new AppError('forbidden', 'you are not a member of the team that your log-in is for; switch to another one');
  }
  if (!hasRole(user.role, access.role)) {
    throw new AppError('forbidden', `this needs the role ${access.role} in the team; yours is ${user.role}`, {
      details: { role: user.role, needed: access.role },
    });
  }
  const caller = userCaller(user);
  return { teamId: user.teamId, actor: caller.actor, via: { type: 'user', user: caller, role: user.role } };
}

/** Who an access token is of, and their role in the team that the token is for, or in another one that `readTeam` finds in the request. */
async function readSession(
  deps: Deps,
  { request, cameAt }: Asked,
  readTeam?: (request: FastifyRequest) => TeamId,
): Promise<SessionUser> {
  const claims = await deps.signingKey.verifyAccessToken(readBearer(request), cameAt);
  const teamId = readTeam ? readTeam(request) : claims.teamId;
  const asked = { ...claims, currentTeamId: claims.teamId, teamId };
  const user = await findSessionUser(deps.database.db, asked, new Date(deps.clock.now()));
  if (!user) throw new AppError('unauthorized', 'the session has ended; log in again');
  if (user.status !== 'active')
    throw new AppError('forbidden', 'this account is deactivated; ask who runs the platform');
  return user;
}

function userCaller({ userId, sessionId, currentTeamId, email, name, isAdmin }: SessionUser): UserCaller {
  const actor = { type: 'user', id: userId, name: email } as const;
  return { userId, sessionId, currentTeamId, email, name, isAdmin, actor };
}

/** Says the same of a team that does not exist and of one that the caller has nothing to do with. */
function noSuchTeam(): AppError {
  return new AppError('not_found', 'there is no such team');
}

function pathTeam(request: FastifyRequest): TeamId {
  return parseId('team', (request.params as { team_id: string }).team_id);
}

/** An API key, in its own header or as a bearer's token; undefined when the caller shows something else or nothing. */
function readKey(request: FastifyRequest): string | undefined {
  const own = request.headers['x-api-key'];
  if (typeof own === 'string' && own !== '') return own;
  const bearer = bearerOf(request);
  return bearer !== undefined && /^(avy|e2b)_/.test(bearer) ? bearer : undefined;
}

function readBearer(request: FastifyRequest): string {
  const token = bearerOf(request);
  if (token === undefined) {
    throw new AppError(
      'unauthorized',
      'this needs X-API-Key with a key, or Authorization: Bearer with an access token',
      {
        details: { header: 'authorization' },
      },
    );
  }
  return token;
}

function bearerOf(request: FastifyRequest): string | undefined {
  return /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
}

function readHeader(request: FastifyRequest, name: string): string {
  const value = request.headers[name];
  if (typeof value !== 'string' || value === '') {
    throw new AppError('unauthorized', `this route needs the header ${name}`, { details: { header: name } });
  }
  return value;
}
