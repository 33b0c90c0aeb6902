import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, test } from 'vitest';
import { buildOpenapi } from './openapi.ts';
import type { Route } from './route.ts';
import { routes } from './routes.ts';

test('the document is valid OpenAPI 3.1', async () => {
  const result = await new Validator().validate(structuredClone(buildOpenapi()));
  expect(result).toEqual({ valid: true });
});

test('every route is in the document with its answers', () => {
  const paths = buildOpenapi()['paths'] as Record<string, Record<string, { operationId: string; responses: object }>>;
  for (const [operationId, route] of Object.entries<Route>(routes)) {
    const operation = paths[route.path]?.[route.method.toLowerCase()];
    expect(operation?.operationId).toBe(operationId);
    for (const status of Object.keys(route.replies)) expect(operation?.responses).toHaveProperty(status);
    const named = [...route.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
    const declared = Object.keys((route.params as { properties?: object } | undefined)?.properties ?? {});
    expect(declared).toEqual(named);
  }
});
