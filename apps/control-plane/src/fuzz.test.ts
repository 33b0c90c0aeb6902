import { randomUUID } from 'node:crypto';
import { buildOpenapi, type Route, type RouteAccess, type RouteName, routes } from '@aviary/api-contract';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ArbitraryDeps, fitting, type Schema, spoiled } from './test-arbitraries.ts';
import { startTestPlatform, type TestPlatform } from './test-platform.ts';
import { idKindOf, makeThings, type NamedThings } from './test-route-samples.ts';

interface Parameter {
  name: string;
  in: 'path' | 'query' | 'header';
  required?: boolean;
  schema: Schema;
}
interface Operation {
  operationId: string;
  parameters?: Parameter[];
  requestBody?: { required: boolean; content: Record<string, { schema: Schema }> };
}
interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

const seed = 20_261;
const documents = [buildOpenapi('users'), buildOpenapi('hosts')] as unknown as Document[];
const operations = documents.flatMap((document) =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ document, path, method: method.toUpperCase(), operation })),
  ),
);
/** Requests in all; `AVIARY_FUZZ_RUNS` for more. */
const runs = Number(process.env['AVIARY_FUZZ_RUNS'] ?? 400);
const runsEach = Math.ceil(runs / operations.length);

let platform: TestPlatform;
let things: NamedThings;
/** Headers of those who may call for the team, by what a route asks for. */
let callers: Record<'key' | 'person' | 'host', Record<string, string>>;
/** What each route has answered. */
const answered = new Map<string, number[]>();
let requests = 0;
/** Something was sent that may have changed what there is. */
let hasChanged = false;
beforeAll(async () => {
  platform = await startTestPlatform();
});
afterAll(() => platform?.[Symbol.asyncDispose]());

/** A team with one of everything and those who may call for it: anew now and then, as a few requests may delete it all. */
async function renewTeam(): Promise<void> {
  const owner = await platform.signIn({ isAdmin: true });
  things = await makeThings(platform, owner);
  const key = (await owner.call('POST', '/v1/api-keys', { body: { name: 'of the fuzz' } })).body.key;
  callers = {
    key: { 'x-api-key': key },
    person: { authorization: `Bearer ${owner.token}` },
    host: { 'x-host-token': platform.host.token },
  };
}

/** A route is asked for what it does while there is something to do it to, by somebody who may. */
async function renewWhenSpent(): Promise<void> {
  if (requests > 0 && requests <= 60 && (!hasChanged || (await isWhole()))) return;
  requests = 0;
  hasChanged = false;
  await renewTeam();
}

async function isWhole(): Promise<boolean> {
  const get = (path: string, headers: Record<string, string>) => platform.call('GET', path, { key: '', headers });
  const replies = await Promise.all([
    get(`/v1/sandboxes/${things.ids.sandbox}`, callers.key),
    get('/v1/admin/users?limit=1', callers.person),
    get(`/v1/teams/${things.ids.team}/invitations?limit=1`, callers.person),
  ]);
  hasChanged = false;
  return replies.every(({ status }) => status === 200) && replies[0]?.body.status === 'running';
}

/** Who may call a route: a key or a person, where either may. */
function rightCallers(access: RouteAccess): Record<string, string>[] {
  switch (access.by) {
    case 'anyone':
      return [{}];
    case 'host':
      return [callers.host];
    case 'user':
    case 'platform_admin':
      return [callers.person];
    case 'team':
      return access.keyScope === null ? [callers.person] : [callers.key, callers.person];
  }
}

const arbitraries = (document: Document): ArbitraryDeps => ({
  resolve: (ref) => document.components.schemas[ref.slice(ref.lastIndexOf('/') + 1)] ?? {},
  known: (pattern) => {
    const kind = idKindOf(pattern);
    return kind === undefined ? undefined : things.ids[kind];
  },
});

const asText = (value: unknown) => (typeof value === 'string' ? value : (JSON.stringify(value) ?? '')).toWellFormed();

/** What is wrong with a request: mostly nothing, and otherwise one thing, so that it comes as far as that. */
const faults = ['none', 'none', 'none', 'none', 'path', 'query', 'header', 'body', 'caller', 'prefer'] as const;
type Fault = (typeof faults)[number];

function requestsTo(one: (typeof operations)[number]) {
  return fc.constantFrom(...faults).chain((fault) => requestsWith(one, fault));
}

/** What is sent, drawn but not yet as text on the wire. */
interface FuzzRequest {
  path: Record<string, string>;
  query: Record<string, string>;
  headers: Record<string, string>;
  prefer: string | undefined;
  caller: Record<string, string>;
  body: unknown;
}

function requestsWith({ document, operation }: (typeof operations)[number], fault: Fault): fc.Arbitrary<FuzzRequest> {
  const deps = arbitraries(document);
  const place = (where: Parameter['in']): fc.Arbitrary<Record<string, string>> =>
    fc.record(
      Object.fromEntries(
        (operation.parameters ?? [])
          .filter((one) => one.in === where && one.name !== 'Prefer')
          .map(({ name, schema }) => {
            const good = fitting(schema, deps);
            if (fault === where) return [name, spoiled(good).map(asText)];
            // One key for several requests is a mistake of its own.
            return [name, name === 'Idempotency-Key' ? good.map(() => randomUUID()) : good.map(asText)];
          }),
      ),
      where === 'path' ? {} : { requiredKeys: [] },
    ) as fc.Arbitrary<Record<string, string>>;
  const [schema] = Object.values(operation.requestBody?.content ?? {}).map((one) => one.schema);
  const good = schema && fitting(schema, deps);
  const { access }: Route = routes[operation.operationId as RouteName];
  return fc.record({
    path: place('path'),
    query: place('query'),
    headers: place('header'),
    prefer: fault === 'prefer' ? fc.constantFrom('wait=x', 'respond-async') : fc.constantFrom(undefined, 'wait=2'),
    caller: fc.constantFrom(...(fault === 'caller' ? [{}, ...Object.values(callers)] : rightCallers(access))),
    body: good ? (fault === 'body' ? fc.option(spoiled(good), { nil: undefined }) : good) : fc.constant(undefined),
  });
}

/** What can be sent as a header's value. */
const headerText = (text: string) =>
  [...text]
    .filter((one) => one >= ' ' && one <= '~')
    .join('')
    .trim();

function bodyOf(type: string | undefined, body: unknown): unknown {
  if (body === undefined || type !== 'multipart/form-data')
    return body === undefined ? undefined : JSON.stringify(body);
  const form = new FormData();
  if (typeof body !== 'object' || body === null) return asText(body);
  for (const [name, value] of Object.entries(body)) {
    if (name === 'file') form.append(name, new Blob([asText(value)]));
    else form.append(name, asText(value));
  }
  return form;
}

/** The fake host's guests may be away; nothing else of ours may fail. */
const mayAnswer = (status: number) => status < 500 || [502, 503, 504].includes(status);

/** Sends one request, and throws for an answer that the document does not allow. */
async function send({ path: template, method, operation }: (typeof operations)[number], request: FuzzRequest) {
  requests++;
  hasChanged ||= method !== 'GET';
  const { path, query, headers, prefer, caller, body } = request;
  const [type] = Object.keys(operation.requestBody?.content ?? {});
  const url = template.replaceAll(/\{(\w+)\}/g, (_all, name: string) => encodeURIComponent(path[name] || 'x'));
  const search = new URLSearchParams(query).toString();
  const sent = Object.fromEntries(Object.entries(headers).map(([name, text]) => [name, headerText(text)]));
  const content = method === 'GET' ? undefined : bodyOf(type, body);
  // The client throws for a status or a body that the document does not name.
  const { status, body: answer } = await platform.call(method, search ? `${url}?${search}` : url, {
    key: '',
    headers: { ...caller, ...sent, ...(prefer ? { prefer } : {}) },
    ...(content === undefined ? {} : { body: content }),
  });
  answered.set(operation.operationId, [...(answered.get(operation.operationId) ?? []), status]);
  expect(mayAnswer(status) ? 'answered' : JSON.stringify(answer)).toBe('answered');
}

test.each(operations.map((one, nth) => [one.operation.operationId, one, nth] as const))(
  '%s answers whatever is sent as the document says',
  async (_name, one, nth) => {
    await renewWhenSpent();
    // Each route its own: with one seed all would have the same faults.
    const seeded = { seed: seed + nth };
    for (const good of fc.sample(requestsWith(one, 'none'), { ...seeded, numRuns: 1 })) await send(one, good);
    await fc.assert(
      fc.asyncProperty(requestsTo(one), (request) => send(one, request)),
      { ...seeded, numRuns: runsEach - 1, endOnFailure: true },
    );
  },
);

test('what was sent came as far as doing something', () => {
  const all = [...answered.values()].flat();
  const share = (isCounted: (status: number) => boolean) => all.filter(isCounted).length / all.length;
  expect(share((status) => status < 300)).toBeGreaterThan(0.35);
  expect(share((status) => status === 401)).toBeLessThan(0.2);
  const done = [...answered].filter(([, statuses]) => statuses.some((status) => status < 300)).map(([name]) => name);
  expect(done).toEqual(expect.arrayContaining(['pauseSandbox', 'forkSandbox', 'exec', 'createSnapshot', 'deleteTeam']));
});
