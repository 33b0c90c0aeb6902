import { keyScopes, wireIdSource } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { byMember } from './access.ts';
import { component } from './component.ts';
import { exampleKey } from './examples.ts';
import { closed, cursor, limit, nullable, readableName, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';

const scopes = Type.Array(Type.Enum([...keyScopes]), {
  description:
    'What the key is good for: all of `sandboxes` or `templates`, or to `read` everything. Default: `sandboxes` and `templates`.',
});

const ApiKeyFields = {
  id: wireId('apiKey'),
  name: Type.String(),
  prefix: Type.String({ description: 'The first characters of the key, to tell it by.' }),
  scopes,
  created_by: Type.Union([Type.Object({ user_id: wireId('user'), email: Type.String() }), Type.Null()], {
    description: 'Null for the key that the platform made at its first start, and once its maker is gone.',
  }),
  created_at: timestamp,
  expires_at: nullable(timestamp),
  last_used_at: Type.Union([timestamp, Type.Null()], { description: 'Some seconds late.' }),
};

export const ApiKey = component('ApiKey', Type.Object(ApiKeyFields));
export type ApiKey = Static<typeof ApiKey>;

export const CreatedApiKey = component(
  'CreatedApiKey',
  Type.Object({ ...ApiKeyFields, key: Type.String({ description: 'The key. Shown this once, and kept nowhere.' }) }),
);
export type CreatedApiKey = Static<typeof CreatedApiKey>;

export const ApiKeyPage = component(
  'ApiKeyPage',
  Type.Object({ items: Type.Array(ApiKey), next_cursor: nullable(Type.String()) }),
);

export const CreateApiKey = component(
  'CreateApiKey',
  Type.Object(
    {
      name: readableName(100),
      scopes: Type.Optional(Type.Array(Type.Enum([...keyScopes]), { minItems: 1, uniqueItems: true })),
      expires_at: Type.Optional(Type.Union([timestamp, Type.Null()], { description: 'Default: never.' })),
    },
    closed,
  ),
);
export type CreateApiKey = Static<typeof CreateApiKey>;

const tag = 'api_keys';

/** Keys for programs: made, listed and revoked by members of the team who have signed in. */
export const apiKeyRoutes = {
  createApiKey: {
    tag,
    access: byMember(),
    method: 'POST',
    path: '/v1/api-keys',
    summary: 'Make an API key for the team',
    description: 'Any member may make keys. A key acts for the team, and is revoked when its maker leaves the team.',
    body: CreateApiKey,
    example: {
      request: { name: 'nightly job', scopes: ['sandboxes'] },
      reply: { ...exampleKey, key: 'avy_5f0c1d2e5f0c1d2e5f0c1d2e5f0c1d2e5f0c1d2e' },
    },
    replies: { 201: CreatedApiKey },
  },
  listApiKeys: {
    tag,
    access: byMember(),
    method: 'GET',
    path: '/v1/api-keys',
    summary: "List the team's API keys",
    description: 'Newest first; without those that were revoked.',
    query: Type.Object({ limit, cursor: cursor(wireIdSource('apiKey')) }),
    example: { reply: { items: [exampleKey], next_cursor: null } },
    replies: { 200: ApiKeyPage },
  },
  revokeApiKey: {
    tag,
    access: byMember(),
    method: 'DELETE',
    path: '/v1/api-keys/{id}',
    summary: 'Revoke an API key',
    description:
      'At once: the next call with it is refused, and what it has open is closed. Members revoke keys that they made, admins any. Again changes nothing.',
    params: Type.Object({ id: wireId('apiKey') }),
    replies: { 204: null },
  },
} as const satisfies RouteTable;
