import { errorCodes } from '@aviary/core';
import type { TSchema } from 'typebox';
import { componentName, componentSchema } from './component.ts';
import { errorStatuses, takesIdempotencyKey } from './error-statuses.ts';
import { ErrorReply } from './errors.ts';
import type { Route } from './route.ts';
import { routes } from './routes.ts';

/** The API's version, as the document and `/health` give it. */
export const apiVersion = '0.1.0';

type Json = Record<string, unknown>;

const componentPrefix = '#/components/schemas/';

/** The OpenAPI 3.1 document of {@link routes}, as plain JSON data. */
export function buildOpenapi(): Json {
  const paths: Record<string, Json> = {};
  for (const [operationId, route] of Object.entries<Route>(routes)) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: buildOperation(operationId, route) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Aviary',
      version: apiVersion,
      description: 'Sandboxes in microVMs: create, run code, pause, resume, fork. Sizes ending in _mb are MiB.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: [...new Set(Object.values<Route>(routes).map((route) => route.tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: usedComponents(paths),
      securitySchemes: {
        api_key: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
        host: { type: 'apiKey', in: 'header', name: 'X-Host-Token' },
      },
    },
  };
}

function buildOperation(operationId: string, route: Route): Json {
  const replies = Object.entries(route.replies).map(([status, reply]) => [status, buildReply(Number(status), reply)]);
  return {
    operationId,
    summary: route.summary,
    tags: [route.tag],
    ...describe(route),
    security: route.auth === 'none' ? [] : [{ [route.auth]: [] }],
    ...(parameters(route).length > 0 ? { parameters: parameters(route) } : {}),
    ...(route.body ? { requestBody: requestBody(route.body, route) } : {}),
    responses: { ...Object.fromEntries(replies), ...errorReplies(route) },
  };
}

function buildReply(status: number, reply: TSchema | string | null): Json {
  const description = { 101: 'Switching to WebSocket', 201: 'Settled', 202: 'Accepted', 204: 'Done' }[status] ?? 'OK';
  if (reply === null) return { description };
  if (typeof reply === 'string')
    return { description, content: { [reply]: { schema: { type: 'string', format: 'binary' } } } };
  return { description, content: { 'application/json': { schema: refer(reply) } } };
}

function requestBody(body: TSchema, { bodyType = 'application/json', isBodyOptional = false }: Route): Json {
  return { required: !isBodyOptional, content: { [bodyType]: { schema: refer(body) } } };
}

function errorReplies(route: Route): Json {
  const content = { 'application/json': { schema: refer(ErrorReply) } };
  const codes = (status: number) =>
    Object.entries(errorCodes)
      .flatMap(([code, { http }]) => (http === status ? [code] : []))
      .join(', ');
  return Object.fromEntries(
    errorStatuses(route).map((status) => [status, { description: `Error: ${codes(status)}`, content }]),
  );
}

function parameters(route: Route): Json[] {
  const list: Json[] = [...fields(route.params, 'path'), ...fields(route.query, 'query')];
  if (takesIdempotencyKey(route)) {
    const description = 'Makes a repeated request give the first answer instead of acting twice. Kept for 24 hours.';
    list.push({
      name: 'Idempotency-Key',
      in: 'header',
      description,
      schema: { type: 'string', minLength: 1, maxLength: 255 },
    });
  }
  if (route.canWait) {
    const description = '`wait=SECONDS` (at most 600) holds the answer until the sandbox has settled.';
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
function describe({ description, frames }: Route): Json {
  if (!frames) return description === undefined ? {} : { description };
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
