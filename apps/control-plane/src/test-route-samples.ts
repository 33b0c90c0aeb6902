import type { RouteName, routes } from '@aviary/api-contract';
import { type IdKind, idPrefixes, newId, parseId, type TeamId } from '@aviary/core';
import type { Static, TSchema } from 'typebox';
import { insertTestThings } from './test-people-store.ts';
import type { Reply, TestPerson, TestPlatform } from './test-platform.ts';

/** Things of one team, by which requests can name them: wire ids by kind, and the names of templates. */
export interface NamedThings {
  teamId: TeamId;
  ids: Partial<Record<IdKind, string>>;
  snapshotName: string;
}

type Body<R> = R extends { bodyType: string }
  ? FormData
  : R extends { body: infer S extends TSchema }
    ? Static<S>
    : never;
type NeedsBody<R> = R extends { isBodyOptional: true } ? false : R extends { body: TSchema } ? true : false;
type NamesWithBody = { [N in RouteName]: NeedsBody<(typeof routes)[N]> extends true ? N : never }[RouteName];

/** A good body for each route that must have one, about `things`: for a new route, one line is added here or nothing compiles. */
export const sampleBodies: { [N in NamesWithBody]: (things: NamedThings) => Body<(typeof routes)[N]> } = {
  setTimeout: () => ({ timeout_sec: 5 }),
  exec: () => ({ cmd: 'true' }),
  writeFile: () => {
    const form = new FormData();
    form.append('path', '/x');
    form.append('file', new Blob(['x']));
    return form;
  },
  readFile: () => ({ path: '/x' }),
  listFiles: () => ({ path: '/' }),
  makeDirectory: () => ({ path: '/x' }),
  removePath: () => ({ path: '/x' }),
  updateGeneration: () => ({ pinned: true }),
  rewindSandbox: () => ({ generation: 'x' }),
  createSnapshot: ({ ids }) => ({ sandbox_id: ids.sandbox ?? '', name: `made-${newId('template')}` }),
  adminSetUserActive: () => ({ active: true }),
  adminSetUserAdmin: () => ({ admin: true }),
  adminCreateLink: () => ({ purpose: 'password_reset' }),
  createTeam: () => ({ name: 'of a sample' }),
  renameTeam: () => ({ name: 'renamed' }),
  addMember: () => ({ email: `${newId('user')}@example.com` }),
  updateMember: () => ({ role: 'admin' }),
  transferTeam: ({ ids }) => ({ user_id: ids.user ?? '' }),
  acceptInvitation: () => ({ token: 'avyi_x' }),
  setQuota: () => ({ sandboxes: 5, vcpus: null, memory_mb: null, disk_size_mb: null, templates: null }),
  signUp: () => ({ email: `${newId('user')}@example.com`, password: 'a good password' }),
  claimPlatform: () => ({ code: 'x', email: `${newId('user')}@example.com`, password: 'a good password' }),
  logIn: () => ({ email: 'nobody@example.com', password: 'a good password' }),
  completeLogIn: () => ({ challenge: 'x', code: '000000' }),
  logInWithPasskey: () => ({
    credential: {
      id: 'x',
      rawId: 'x',
      type: 'public-key',
      response: { clientDataJSON: 'x', authenticatorData: 'x', signature: 'x' },
    },
  }),
  addPasskey: () => ({
    credential: {
      id: 'x',
      rawId: 'x',
      type: 'public-key',
      response: { clientDataJSON: 'x', attestationObject: 'x' },
    },
  }),
  renamePasskey: () => ({ name: 'renamed' }),
  confirmTotp: () => ({ code: '000000' }),
  verifyEmail: () => ({ token: 'x' }),
  requestPasswordReset: () => ({ email: 'nobody@example.com' }),
  confirmPasswordReset: () => ({ token: 'x', new_password: 'a better password' }),
  switchTeam: ({ ids }) => ({ team_id: ids.team ?? '' }),
  updateMe: () => ({ name: 'renamed' }),
  changePassword: () => ({ new_password: 'a better password' }),
  exchangeSignInCode: () => ({ code: 'x' }),
  linkIdentity: () => ({ provider: 'none' }),
  createApiKey: () => ({ name: 'of a sample' }),
  registerHost: () => ({
    token: 'x',
    address: '127.0.0.1:1',
    arch: 'x86_64',
    cpu_cores: 1,
    memory_mb: 1_024,
    disk_gb: 1,
    agent_version: '1',
  }),
  refreshHost: () => ({ refresh_token: 'x' }),
  sandboxEvents: () => ({ events: [] }),
};

/** Parameters of a path that are no ids, by their name. */
const namedParams: Record<string, (things: NamedThings) => string> = {
  name: ({ snapshotName }) => snapshotName,
  provider: () => 'none',
};

/** The path of `route` about `things`. Throws when it has a parameter that they do not have: add it to {@link makeThings}. */
export function samplePath(route: { path: string; params?: TSchema }, things: NamedThings): string {
  const { properties = {} } = (route.params ?? {}) as { properties?: Record<string, { pattern?: string }> };
  return route.path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => {
    const kind = idKindOf(properties[name]?.pattern ?? '');
    const value = kind === undefined ? namedParams[name]?.(things) : things.ids[kind];
    if (value === undefined) throw new Error(`test-route-samples.ts has nothing for {${name}} of ${route.path}`);
    return value;
  });
}

/** The kind of the ids that a schema's pattern takes. */
export function idKindOf(pattern: string): IdKind | undefined {
  const [, prefix] = /^\^([a-z]+)-\[/.exec(pattern) ?? [];
  return (Object.keys(idPrefixes) as IdKind[]).find((kind) => idPrefixes[kind] === prefix);
}

/** Names of what does not exist, of every kind. */
export function missingThings(): NamedThings {
  const kinds = Object.keys(idPrefixes) as IdKind[];
  const teamId = newId('team');
  const ids = Object.fromEntries(kinds.map((kind) => [kind, `${idPrefixes[kind]}-${newId(kind)}`]));
  return { teamId, ids: { ...ids, team: `team-${teamId}` }, snapshotName: `none-${newId('template')}` };
}

/** Makes one of everything that a team can have, in the team of `owner`. */
export async function makeThings(platform: TestPlatform, owner: TestPerson): Promise<NamedThings> {
  const { db } = platform.database;
  const { teamId, userId, sessionId } = owner;
  const wait = { headers: { prefer: 'wait=20' } };
  const done = ({ status, body }: Reply) => {
    if (status >= 300) throw new Error(`not made: ${JSON.stringify(body)}`);
    return body;
  };
  const sandbox = done(await owner.call('POST', '/v1/sandboxes', wait)).id;
  const snapshotName = `own-${newId('template')}`;
  const snapshot = done(
    await owner.call('POST', '/v1/snapshots', { ...wait, body: { sandbox_id: sandbox, name: snapshotName } }),
  );
  const [operation] = done(await owner.call('GET', `/v1/sandboxes/${sandbox}/operations`)).items;
  const inserted = await insertTestThings(db, { teamId, sandboxId: parseId('sandbox', sandbox), invitedBy: userId });
  return {
    teamId,
    snapshotName,
    ids: {
      team: `team-${teamId}`,
      user: `usr-${userId}`,
      session: `ses-${sessionId}`,
      host: platform.host.id,
      sandbox,
      template: snapshot.id,
      operation: operation.id,
      ...inserted,
    },
  };
}
