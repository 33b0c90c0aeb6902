import { type Route, type RouteAccess, type RouteName, routes } from '@aviary/api-contract';
import { formatId, type KeyScope, must, type TeamId, type TeamRole } from '@aviary/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Db } from '../context.ts';
import { compileValidator } from '../http/validator.ts';
import { insertTestKey, insertTestTeam } from '../test-people-store.ts';
import { type Reply, startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';
import { makeThings, missingThings, type NamedThings, sampleBodies, samplePath } from '../test-route-samples.ts';

/** What a route answers to a caller: let in, or refused in one of these ways. */
type Verdict = 'let in' | 401 | 403 | 404;

/** A kind of caller: how one is made in a team, and what each kind of route says to it. */
interface CallerKind {
  /** Headers of a new caller of this kind in a team. */
  make(teamId: TeamId): Promise<Record<string, string>>;
  verdict(access: RouteAccess, route: Route): Verdict;
}

let platform: TestPlatform;
let own: { person: TestPerson; things: NamedThings };
let foreign: NamedThings;
beforeAll(async () => {
  platform = await startTestPlatform();
  const person = await platform.signIn();
  own = { person, things: await makeThings(platform, person) };
  foreign = await makeThings(platform, await platform.signIn());
});
afterAll(() => platform[Symbol.asyncDispose]());

const table = Object.entries<Route>(routes) as [RouteName, Route][];
const isRead = (route: Route) => route.method === 'GET' && !route.frames;

/** Of what only shows a key: routes for people know no key, and those for members say that people are meant. */
function keyVerdict(access: RouteAccess, team: (access: RouteAccess & { by: 'team' }) => Verdict): Verdict {
  if (access.by === 'anyone') return 'let in';
  if (access.by !== 'team') return 401;
  return access.keyScope === null ? 403 : team(access);
}

const refusedWith =
  (status: 401 | 403) =>
  (access: RouteAccess): Verdict => {
    if (access.by === 'anyone') return 'let in';
    return access.by === 'host' ? 401 : status;
  };

type KeyState = { scopes?: KeyScope[]; revokedAt?: Date; expiresAt?: Date };

const makeKey = async (teamId: TeamId, state: KeyState = {}) => ({
  'x-api-key': (await insertTestKey(platform.database.db, { teamId, ...state })).key,
});

const keyKind = (state: KeyState, verdict: CallerKind['verdict']): CallerKind => ({
  make: (teamId) => makeKey(teamId, state),
  verdict,
});

const scopedKey = (scopes: KeyScope[]) =>
  keyKind({ scopes }, (access, route) =>
    keyVerdict(access, ({ keyScope }) => {
      if (scopes.some((scope) => scope === keyScope)) return 'let in';
      if (keyScope === 'any') return isRead(route) || !scopes.every((scope) => scope === 'read') ? 'let in' : 403;
      return isRead(route) && scopes.includes('read') ? 'let in' : 403;
    }),
  );

const bearer = ({ token }: { token: string }) => ({ authorization: `Bearer ${token}` });

/** Somebody who has signed in, with a change to what the database knows of them since. */
const person = (
  { role = 'owner', isAdmin = false }: { role?: TeamRole; isAdmin?: boolean },
  verdict: CallerKind['verdict'],
  change?: (db: Db, signedIn: TestPerson) => Promise<unknown>,
): CallerKind => ({
  make: async (teamId) => {
    const signedIn = await platform.signIn({ role, isAdmin, teamId });
    await change?.(platform.database.db, signedIn);
    return bearer(signedIn);
  },
  verdict,
});

const rank: TeamRole[] = ['member', 'admin', 'owner'];
const memberWith = (role: TeamRole) =>
  person({ role }, (access) => {
    if (access.by === 'host') return 401;
    if (access.by === 'platform_admin') return 403;
    return access.by === 'team' && rank.indexOf(role) < rank.indexOf(access.role) ? 403 : 'let in';
  });

/** One who has signed in and is in no team any more. */
const outsider =
  (isAdmin: boolean) =>
  (access: RouteAccess): Verdict => {
    if (access.by === 'host') return 401;
    if (access.by === 'platform_admin') return isAdmin ? 'let in' : 403;
    if (access.by !== 'team') return 'let in';
    return access.team === 'path' ? 404 : 403;
  };

const leaveTeam = (db: Db, { userId }: TestPerson) =>
  db.deleteFrom('team_members').where('user_id', '=', userId).execute();

const fixed = (headers: Record<string, string>, verdict: CallerKind['verdict']): CallerKind => ({
  make: async () => headers,
  verdict,
});

const unknown = refusedWith(401);
const callerKinds: Record<string, CallerKind> = {
  'no credential': fixed({}, unknown),
  'a key that never was': fixed({ 'x-api-key': `avy_${'0'.repeat(40)}` }, (access) =>
    access.by === 'anyone' ? 'let in' : 401,
  ),
  'a header that is no key': fixed({ 'x-api-key': 'avy_0' }, unknown),
  'a token that is none': fixed({ authorization: 'Bearer x.y.z' }, unknown),
  'a key for sandboxes': scopedKey(['sandboxes']),
  'a key for templates': scopedKey(['templates']),
  'a key for both': scopedKey(['sandboxes', 'templates']),
  'a read-only key': scopedKey(['read']),
  'a revoked key': keyKind({ revokedAt: new Date(0) }, unknown),
  'an expired key': keyKind({ expiresAt: new Date(0) }, unknown),
  'a key of a deleted team': {
    make: async (teamId) => {
      const { db } = platform.database;
      await db.updateTable('teams').set({ deleted_at: new Date() }).where('id', '=', teamId).execute();
      return makeKey(teamId);
    },
    verdict: unknown,
  },
  'a member': memberWith('member'),
  'an admin': memberWith('admin'),
  'an owner': memberWith('owner'),
  'a platform admin': person({ isAdmin: true }, outsider(true), leaveTeam),
  'a former member': person({ role: 'member' }, outsider(false), leaveTeam),
  'an ended session': person({}, unknown, (db, { sessionId }) =>
    db.updateTable('sessions').set({ revoked_at: new Date() }).where('id', '=', sessionId).execute(),
  ),
  'an expired session': person({}, unknown, (db, { sessionId }) =>
    db
      .updateTable('sessions')
      .set({ expires_at: new Date(0) })
      .where('id', '=', sessionId)
      .execute(),
  ),
  'a deactivated user': person({ isAdmin: true }, refusedWith(403), (db, { userId }) =>
    db.updateTable('users').set({ status: 'deactivated' }).where('id', '=', userId).execute(),
  ),
  'a host': {
    make: async () => ({ 'x-host-token': platform.host.token }),
    verdict: ({ by }) => (by === 'anyone' || by === 'host' ? 'let in' : 401),
  },
};

/** Routes whose body names something of the team's that must exist. */
const bodiesNamingThings: readonly RouteName[] = ['createSnapshot'];

const isOfPathTeam = (access: RouteAccess) => access.by === 'team' && access.team === 'path';

const callers = new Map<string, { teamId: TeamId; headers: Record<string, string> }>();

/** A caller and its team, with nothing in it: what it does changes nothing that others need. One that can be used again is. */
async function makeCaller(kind: string, { isUsedUp }: { isUsedUp: boolean }) {
  const known = callers.get(kind);
  if (known && !isUsedUp) return known;
  const teamId = await insertTestTeam(platform.database.db);
  const made = { teamId, headers: await must(callerKinds[kind], 'a kind is asked for by its name').make(teamId) };
  if (!isUsedUp) callers.set(kind, made);
  return made;
}

function ask(name: RouteName, things: NamedThings, headers: Record<string, string>): Promise<Reply> {
  const route: Route = routes[name];
  const make = sampleBodies[name as keyof typeof sampleBodies] as ((things: NamedThings) => unknown) | undefined;
  const body = make?.(things);
  return platform.call(route.method, samplePath(route, things), {
    key: '',
    headers,
    ...(body === undefined ? {} : { body }),
  });
}

/** What the answer says of the caller; whatever is no refusal came from behind the door. */
function verdictOf({ status, body }: Reply, access: Route['access']): Verdict | string {
  if (status === 401 || status === 403) return status;
  // Of a person's own route the body names the team, which is looked at behind the door.
  if (access.by === 'team' && status === 404 && body.error.message === 'there is no such team') return 404;
  return status >= 500 ? `failed with ${status}: ${body.error.message}` : 'let in';
}

describe.each(table)('%s', (name, route) => {
  const { access } = route;

  test(`lets in whom its table entry says (${JSON.stringify(access)})`, async () => {
    const implied: Record<string, Verdict> = {};
    const told: Record<string, Verdict | string> = {};
    for (const [kind, caller] of Object.entries(callerKinds)) {
      const verdict = caller.verdict(access, route);
      const { teamId, headers } = await makeCaller(kind, { isUsedUp: verdict === 'let in' && route.method !== 'GET' });
      const missing = missingThings();
      const ids = { ...missing.ids, team: formatId('team', teamId), host: platform.host.id };
      const reply = await ask(name, { ...missing, teamId, ids }, headers);
      implied[kind] = verdict;
      // What is for anybody may refuse what its body says: it only asks nobody who they are.
      told[kind] = access.by === 'anyone' ? 'let in' : verdictOf(reply, access);
      if (told[kind] === 401) expect(reply.body.error.code).toBe('unauthorized');
      if (told[kind] === 403) expect(reply.body.error.code).toBe('forbidden');
    }
    expect(told).toEqual(implied);
  });

  const isNaming = /\{\w+\}/.test(route.path) || bodiesNamingThings.includes(name);
  // Of any other route there is nothing of another team's to ask for.
  if (!isNaming || access.by !== 'team') return;
  test("answers another team's things as what never was", async () => {
    const asking: Record<string, string>[] = [bearer(own.person)];
    if (access.keyScope !== null) asking.push(await makeKey(own.things.teamId));
    const hasMoreThanTeam = /\{(?!team_id\})\w+\}/.test(route.path);
    for (const headers of asking) {
      // The whole path is another team's, or what comes after one's own team in it.
      for (const kept of [
        {},
        ...(isOfPathTeam(access) && hasMoreThanTeam ? [{ team: formatId('team', own.things.teamId) }] : []),
      ]) {
        const tell = async (things: NamedThings) => {
          const { status, body } = await ask(name, { ...things, ids: { ...things.ids, ...kept } }, headers);
          const { request_id, ...error } = body.error;
          expect(request_id).toMatch(/^req-/);
          // What was asked for may be said again.
          return { status, error: JSON.stringify(error).replaceAll(things.snapshotName, '…') };
        };
        const told = await tell(foreign);
        expect(told.status).toBe(404);
        expect(told).toEqual(await tell(missingThings()));
      }
    }
  });
});

test.each(Object.entries(sampleBodies))('the sample body of %s is a good one', (name, make) => {
  const route: Route = routes[name as RouteName];
  if (route.bodyType) return;
  const validate = compileValidator(route.body as object, 'body');
  validate(make(own.things));
  expect(validate.errors).toBeNull();
});
