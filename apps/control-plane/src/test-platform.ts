import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ErrorReply, type Route, routes } from '@aviary/api-contract';
import { newId, type SessionId, type TeamId, type TeamRole, type UserId } from '@aviary/core';
import type { Database } from '@aviary/database';
import { silentLogger } from '@aviary/service-kit';
import { FakeHostAgent, openTestDatabase } from '@aviary/testing';
import { insertApiKey } from './api-keys/api-key-store.ts';
import { findAnswerFault, findFault } from './http/answer-check.ts';
import type { SmtpSettings } from './mail/smtp-transport.ts';
import type { ControlPlane, ControlPlaneConfig, ControlPlaneOverrides } from './start.ts';
import { startControlPlane } from './start.ts';
import { ensureTeam } from './teams/team-store.ts';
import { insertTestSession, insertTestTeam, insertTestUser } from './test-people-store.ts';

export interface Reply {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape.
  body: any;
}

export interface CallOptions {
  body?: unknown;
  headers?: Record<string, string>;
  key?: string;
}

/** Somebody who has signed in. */
export interface TestPerson {
  userId: UserId;
  sessionId: SessionId;
  /** The team that their access token is for. */
  teamId: TeamId;
  email: string;
  token: string;
  /** Calls the API as them. */
  call(method: string, url: string, options?: Omit<CallOptions, 'key'>): Promise<Reply>;
}

/** A control plane with one fake host, called over real HTTP. */
export interface TestPlatform extends AsyncDisposable {
  controlPlane: ControlPlane;
  agent: FakeHostAgent;
  host: { id: string; token: string; refreshToken: string };
  database: Database;
  dataDirectory: string;
  apiKey: string;
  /** Calls the API as the default team, or as `key` says (empty: no key). */
  call(method: string, url: string, options?: CallOptions): Promise<Reply>;
  /** The team of {@link apiKey}. */
  teamId: TeamId;
  /**
   * A new person who has signed in, with `role` (default owner) in `teamId`; without one in a team of their own, which has
   * another owner when they are not it.
   */
  signIn(options?: { role?: TeamRole; teamId?: TeamId; isAdmin?: boolean; email?: string }): Promise<TestPerson>;
  /** A second team's key. */
  createTeam(): Promise<string>;
  startReplica(overrides?: ControlPlaneOverrides): Promise<ControlPlane>;
}

const paths = Object.values<Route>(routes).map((route) => ({
  route,
  pattern: new RegExp(`^${route.path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
}));

/** Throws when an answer is not as the contract says: a status that its route does not name, or a body of another shape. */
function checkByContract({ method, url }: { method: string; url: string }, { status, body }: Reply): void {
  const path = url.split('?', 1)[0] ?? '';
  const known = paths.find(({ route, pattern }) => route.method === method && pattern.test(path));
  const fault = known ? findAnswerFault(known.route, { status, body }) : status >= 400 && findFault(ErrorReply, body);
  if (fault) throw new Error(`${method} ${path}: ${fault}`);
}

/** Starts on PGlite in memory, or on the given store. Everything goes when it is disposed. */
export async function startTestPlatform(
  options: {
    database?: Database;
    overrides?: ControlPlaneOverrides;
    fault?: string;
    smtp?: SmtpSettings;
    /** Instead of what tests usually have. */
    config?: Partial<ControlPlaneConfig>;
  } = {},
): Promise<TestPlatform> {
  await using stack = new AsyncDisposableStack();
  const dataDirectory = await mkdtemp(path.join(tmpdir(), 'aviary-cp-'));
  stack.defer(() => rm(dataDirectory, { recursive: true, force: true }));
  const database = options.database ?? stack.use(await openTestDatabase());
  const config = {
    host: '127.0.0.1',
    port: 0,
    dataDirectory,
    databaseUrl: undefined,
    logLevel: 'silent',
    fault: options.fault,
    checksAnswers: true,
    passwordCost: { memoryKib: 64, passes: 1 },
    smtp: options.smtp,
    ...options.config,
  };
  const replicas: ControlPlane[] = [];
  stack.defer(async () => {
    for (const replica of replicas) await replica[Symbol.asyncDispose]();
  });
  const startReplica = async (overrides: ControlPlaneOverrides = {}) => {
    // A fault belongs to the first replica alone.
    const replica = await startControlPlane(
      { ...config, fault: undefined },
      { logger: silentLogger, ...overrides, database },
    );
    replicas.push(replica);
    return replica;
  };
  const agent = stack.use(await FakeHostAgent.start());
  const controlPlane = stack.use(
    await startControlPlane(config, { logger: silentLogger, ...options.overrides, database }),
  );
  const readBootstrap = async (name: string) =>
    (await readFile(path.join(dataDirectory, 'bootstrap', name), 'utf8')).trim();
  const apiKey = await readBootstrap('api-key');
  const call: TestPlatform['call'] = async (method, url, { body, headers, key = apiKey } = {}) => {
    const response = await fetch(`${controlPlane.url}${url}`, {
      method,
      headers: {
        ...(key ? { 'x-api-key': key } : {}),
        ...(body === undefined || body instanceof FormData ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined
        ? {}
        : { body: body instanceof FormData || typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json');
    const reply = {
      status: response.status,
      headers: response.headers,
      body: isJson && text ? JSON.parse(text) : text,
    };
    checkByContract({ method, url }, reply);
    return reply;
  };
  const registered = await call('POST', '/v1/hosts/register', {
    body: {
      token: await readBootstrap('host-token'),
      address: agent.address,
      arch: 'x86_64',
      cpu_cores: 64,
      memory_mb: 1_000_000,
      disk_gb: 10_000,
      agent_version: '0.1.0',
    },
  });
  if (registered.status !== 201) throw new Error(`host not registered: ${JSON.stringify(registered.body)}`);
  const host = {
    id: registered.body.host_id,
    token: registered.body.token,
    refreshToken: registered.body.refresh_token,
  };
  const createTeam = async () => {
    const teamId = await ensureTeam(database.db, { name: 'Other', slug: newId('team') });
    return (await insertApiKey(database.db, { teamId, name: 'test' })).key;
  };
  const signIn: TestPlatform['signIn'] = async ({ role = 'owner', teamId, isAdmin = false, email } = {}) => {
    const { db } = database;
    const team = teamId ?? (await insertTestTeam(db));
    if (teamId === undefined && role !== 'owner')
      await insertTestUser(db, { membership: { teamId: team, role: 'owner' } });
    const membership = { teamId: team, role };
    const person = await insertTestUser(db, { isAdmin, membership, ...(email === undefined ? {} : { email }) });
    const sessionId = await insertTestSession(db, person.userId);
    const claims = { userId: person.userId, sessionId, teamId: team };
    const { token } = await controlPlane.context.signingKey.signAccessToken(claims, { role, isAdmin });
    return {
      ...person,
      sessionId,
      teamId: team,
      token,
      call: (method, url, { headers, ...rest } = {}) =>
        call(method, url, { ...rest, key: '', headers: { authorization: `Bearer ${token}`, ...headers } }),
    };
  };
  const owned = stack.move();
  return {
    teamId: await ensureTeam(database.db, { name: 'Default', slug: 'default' }),
    signIn,
    controlPlane,
    agent,
    host,
    database,
    dataDirectory,
    apiKey,
    call,
    createTeam,
    startReplica,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
