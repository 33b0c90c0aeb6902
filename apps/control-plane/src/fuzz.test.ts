import { buildOpenapi } from '@aviary/api-contract';
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
let callers: Record<string, string>[];
let requests = 0;
beforeAll(async () => {
  platform = await startTestPlatform();
});
afterAll(() => platform?.[Symbol.asyncDispose]());

/** A team with one of everything and those who may call for it: anew now and then, as a few requests may delete it all. */
async function renewTeam(): Promise<void> {
  const owner = await platform.signIn({ isAdmin: true });
  things = await makeThings(platform, owner);
  const key = (await owner.call('POST', '/v1/api-keys', { body: { name: 'of the fuzz' } })).body.key;
  callers = [
    { 'x-api-key': key },
    { authorization: `Bearer ${owner.token}`, 'x-host-token': platform.host.token },
    { 'x-host-token': platform.host.token },
  ];
}

const arbitraries = (document: Document): ArbitraryDeps => ({
  resolve: (ref) => document.components.schemas[ref.slice(ref.lastIndexOf('/') + 1)] ?? {},
  known: (pattern) => {
    const kind = idKindOf(pattern);
    return kind === undefined ? undefined : things.ids[kind];
  },
});

/** Most of the time what fits, sometimes what does not. */
const mostly = (good: fc.Arbitrary<unknown>) =>
  fc.oneof({ weight: 3, arbitrary: good }, { weight: 2, arbitrary: spoiled(good) });

const asText = (value: unknown) => (typeof value === 'string' ? value : (JSON.stringify(value) ?? '')).toWellFormed();

function requestsTo({ document, operation }: (typeof operations)[number]) {
  const deps = arbitraries(document);
  const place = (where: Parameter['in']) =>
    fc.record(
      Object.fromEntries(
        (operation.parameters ?? [])
          .filter((one) => one.in === where && one.name !== 'Prefer')
          .map((one) => [one.name, mostly(fitting(one.schema, deps)).map(asText)]),
      ),
      where === 'path' ? {} : { requiredKeys: [] },
    );
  const [schema] = Object.values(operation.requestBody?.content ?? {}).map((one) => one.schema);
  return fc.record({
    path: place('path'),
    query: place('query'),
    headers: place('header'),
    prefer: fc.constantFrom(undefined, 'wait=0', 'wait=2', 'wait=x', 'respond-async'),
    caller: fc.nat({ max: 20 }).map((nth) => (nth === 0 ? {} : callers[nth % callers.length])),
    body: schema ? fc.option(mostly(fitting(schema, deps)), { nil: undefined, freq: 10 }) : fc.constant(undefined),
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

test.each(operations.map((one) => [one.operation.operationId, one] as const))(
  '%s answers whatever is sent as the document says',
  async (_name, one) => {
    if (requests === 0 || requests > 60) {
      requests = 0;
      await renewTeam();
    }
    const { method, operation } = one;
    const [type] = Object.keys(operation.requestBody?.content ?? {});
    await fc.assert(
      fc.asyncProperty(requestsTo(one), async ({ path, query, headers, prefer, caller, body }) => {
        requests++;
        const url = one.path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => encodeURIComponent(path[name] || 'x'));
        const search = new URLSearchParams(query as Record<string, string>).toString();
        const sent = Object.fromEntries(
          Object.entries(headers as Record<string, string>).map(([name, text]) => [name, headerText(text)]),
        );
        const content = method === 'GET' ? undefined : bodyOf(type, body);
        // The client throws for a status or a body that the document does not name.
        const { status, body: answer } = await platform.call(method, search ? `${url}?${search}` : url, {
          key: '',
          headers: { ...caller, ...sent, ...(prefer ? { prefer } : {}) },
          ...(content === undefined ? {} : { body: content }),
        });
        expect(mayAnswer(status) ? 'answered' : JSON.stringify(answer)).toBe('answered');
      }),
      { seed, numRuns: runsEach, endOnFailure: true },
    );
  },
);
