import { errorCodes } from '@aviary/core';
import type { TSchema } from 'typebox';
import { componentName, componentSchema } from './component.ts';
import { errorStatuses, idempotencyKeyPattern, takesIdempotencyKey } from './error-statuses.ts';
import { ErrorReply } from './errors.ts';
import type { Route } from './route.ts';
import { routes } from './routes.ts';

/** The API's version, as the document and `/health` give it. */
export const apiVersion = '0.1.0';

type Json = Record<string, unknown>;

/** What every answer of a command carries. */
const operationHeaders = {
  'Operation-Id': {
    description:
      'The operation that carries the command out: GET /v1/operations/{id}. Absent when nothing was left to do.',
    schema: { type: 'string' },
  },
};

/** What every answer to a known caller carries, where requests are counted. */
const rateLimitHeaders = Object.fromEntries(
  Object.entries({
    Limit: 'Requests per minute that the tightest of your limits allows.',
    Remaining: 'Of those, how many are left now.',
    Reset: 'Seconds until all of them are there again.',
  }).map(([name, description]) => [`RateLimit-${name}`, { description, schema: { type: 'integer' } }]),
);

const componentPrefix = '#/components/schemas/';

/** The OpenAPI 3.1 document of {@link routes} for users, or of the ones between the platform's own parts, as plain JSON data. */
export function buildOpenapi(audience: 'users' | 'hosts' = 'users'): Json {
  const listed = Object.entries<Route>(routes).filter(
    ([, { isInternal = false }]) => isInternal === (audience === 'hosts'),
  );
  const paths: Record<string, Json> = {};
  for (const [operationId, route] of listed) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: buildOperation(operationId, route) };
  }
  const securitySchemes = {
    users: {
      api_key: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
      access_token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
    },
    hosts: { host: { type: 'apiKey', in: 'header', name: 'X-Host-Token' } },
  };
  return {
    openapi: '3.1.0',
    info: {
      title: audience === 'users' ? 'Aviary API' : 'Aviary API for host agents',
      version: apiVersion,
      description:
        audience === 'users' ? introduction : 'How host agents register, stay known and report. Not for users.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: [...new Set(listed.map(([, { tag }]) => tag))].map((name) => ({ name, description: tagWords[name] })),
    paths,
    components: {
      schemas: usedComponents(paths),
      securitySchemes: securitySchemes[audience],
    },
  };
}

const introduction = [
  'Sandboxes in microVMs: create, run code, pause with memory, resume, fork, go back.',
  'Send your key in `X-API-Key`. A start: `POST /v1/sandboxes` with `Prefer: wait=60`, then `POST /v1/sandboxes/{id}/exec`',
  'with `{"cmd": "python3 --version"}`, then `DELETE /v1/sandboxes/{id}`.',
  'Units are in names: `_mb` is MiB (1,048,576 bytes), `_sec` seconds, `_ms` milliseconds, `_bytes` bytes; times are RFC 3339.',
  'Every error has one shape, and its message says what to do next; answers 429 and 503 with `Retry-After` did nothing and may be repeated.',
].join('\n');

const tagWords = {
  sandboxes: 'The life of a sandbox.',
  data: 'Commands and files in a running sandbox, and what keeps it awake.',
  generations: 'Saved states of a sandbox: a tree to name, keep and go back to.',
  snapshots:
    'Templates: those of the platform, and those made of a sandbox. A snapshot is a template that a team made.',
  operations: 'What became of a command: every command names its operation in the header `Operation-Id`.',
  hosts: 'The machines that run sandboxes.',
  accounts: 'People: signing up and in, their sessions, their ways to sign in.',
  teams: 'Teams, their members and invitations.',
  api_keys: 'Keys for programs. One is shown once, when it is made.',
  audit: 'Who did what, when.',
  admin: 'For those who look after the platform.',
  service: 'The API itself.',
} as const satisfies Record<Route['tag'], string>;

function buildOperation(operationId: string, route: Route): Json {
  const headers = route.canWait ? { headers: operationHeaders } : {};
  const replies = Object.entries(route.replies).map(([status, reply]) => [
    status,
    { ...buildReply(Number(status), reply, route.example?.reply), ...headers },
  ]);
  return {
    operationId,
    summary: route.summary,
    tags: [route.tag],
    ...describe(route),
    security: security(route),
    ...(parameters(route).length > 0 ? { parameters: parameters(route) } : {}),
    ...(route.body ? { requestBody: requestBody(route.body, route) } : {}),
    responses: { ...Object.fromEntries(replies), ...errorReplies(route) },
  };
}

/** How a caller shows who it is: one of these. */
function security({ access }: Route): Json[] {
  switch (access.by) {
    case 'anyone':
      return [];
    case 'host':
      return [{ host: [] }];
    case 'user':
    case 'platform_admin':
      return [{ access_token: [] }];
    case 'team':
      return [...(access.keyScope === null ? [] : [{ api_key: [] }]), { access_token: [] }];
  }
}

/** Who may call, beyond having one of the credentials. */
function accessWords({ access }: Route): string | undefined {
  switch (access.by) {
    case 'platform_admin':
      return 'For administrators of the platform.';
    case 'team': {
      const key = access.keyScope === null || access.keyScope === 'any' ? [] : [`a key for ${access.keyScope}`];
      const role = access.role === 'member' ? [] : [`a member with the role ${access.role}`];
      const needs = [...key, ...role];
      return needs.length === 0 ? undefined : `Needs ${needs.join(', or ')}.`;
    }
    default:
      return undefined;
  }
}

function buildReply(status: number, reply: TSchema | string | null, example: unknown): Json {
  const description =
    { 101: 'Switching to WebSocket', 201: 'Settled', 202: 'Accepted', 204: 'Done', 303: 'Go on at `Location`' }[
      status
    ] ?? 'OK';
  if (reply === null) return { description };
  if (typeof reply === 'string')
    return { description, content: { [reply]: { schema: { type: 'string', format: 'binary' } } } };
  return { description, content: { 'application/json': { schema: refer(reply), ...shown(example) } } };
}

function requestBody(body: TSchema, { bodyType = 'application/json', isBodyOptional = false, example }: Route): Json {
  return { required: !isBodyOptional, content: { [bodyType]: { schema: refer(body), ...shown(example?.request) } } };
}

const shown = (example: unknown): Json => (example === undefined ? {} : { example });

function errorReplies(route: Route): Json {
  const content = { 'application/json': { schema: refer(ErrorReply) } };
  const codes = (status: number) =>
    Object.entries(errorCodes)
      .flatMap(([code, { http }]) => (http === status ? [code] : []))
      .join(', ');
  return Object.fromEntries(
    errorStatuses(route).map((status) => [
      status,
      { description: `Error: ${codes(status)}`, ...retryHeader(status), content },
    ]),
  );
}

/** Only what was not begun may be repeated as it is. */
function retryHeader(status: number): Json {
  if (status !== 429 && status !== 503) return {};
  const description = 'When present, nothing was done: ask again after so many seconds.';
  const retry = { 'Retry-After': { description, schema: { type: 'integer' } } };
  return { headers: status === 429 ? { ...retry, ...rateLimitHeaders } : retry };
}

function parameters(route: Route): Json[] {
  const list: Json[] = [...fields(route.params, 'path'), ...fields(route.query, 'query')];
  if (takesIdempotencyKey(route)) {
    const description = 'Makes a repeated request give the first answer instead of acting twice. Kept for 24 hours.';
    list.push({
      name: 'Idempotency-Key',
      in: 'header',
      description,
      schema: { type: 'string', pattern: idempotencyKeyPattern },
    });
  }
  if (route.canWait) {
    const description =
      '`wait=SECONDS` (at most 600) holds the answer until the operation has ended: with what it came to, or why it failed.';
    list.push({ name: 'Prefer', in: 'header', description, schema: { type: 'string' } });
  }
  return list;
}

function fields(schema: TSchema | undefined, place: 'path' | 'query'): Json[] {
  const properties = (schema as { properties?: Record<string, TSchema> } | undefined)?.properties ?? {};
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: place,
    required: place === 'path',
    schema: expand(property),
  }));
}

/** The route's own words, and of a socket what each side sends on it. */
function describe(route: Route): Json {
  const { frames } = route;
  const pages = route.isForOwnPages ? 'Pages of other sites are refused (403).' : undefined;
  const description = [route.description, accessWords(route), pages].filter(Boolean).join(' ');
  if (!frames) return description === '' ? {} : { description };
  const client = componentName(frames.client);
  const server = componentName(frames.server);
  const protocol = `A WebSocket of JSON text frames: the client sends \`${client}\`, the server \`${server}\` (see the schemas).`;
  return {
    description: [protocol, description].filter(Boolean).join(' '),
    'x-websocket': { client: refer(frames.client), server: refer(frames.server) },
  };
}

/** `schema`, or a reference to it when it is a component. */
function refer(schema: unknown): unknown {
  const name = componentName(schema);
  return name === undefined ? expand(schema) : { $ref: `${componentPrefix}${name}` };
}

function expand(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(refer);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, refer(inner)]));
}

/** The components that `document` refers to, by itself or through others, by name. */
function usedComponents(document: unknown): Json {
  const used = new Map<string, unknown>();
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      const name = key === '$ref' && typeof inner === 'string' ? inner.slice(componentPrefix.length) : undefined;
      if (name === undefined) visit(inner);
      else if (!used.has(name)) {
        used.set(name, expand(componentSchema(name)));
        visit(used.get(name));
      }
    }
  };
  visit(document);
  return Object.fromEntries([...used].sort(([a], [b]) => (a < b ? -1 : 1)));
}
