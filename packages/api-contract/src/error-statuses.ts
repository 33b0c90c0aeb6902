import type { Route } from './route.ts';

/** Every error status that a route can answer, in order: those of its kind and its own. The document, the server and tests go by it. */
export function errorStatuses(route: Route): number[] {
  // 503: the database is away for a moment.
  const statuses = new Set<number>([400, 500, 503, ...(route.errors ?? [])]);
  if (route.access.by !== 'anyone') statuses.add(401);
  if (!route.isUnlimited) statuses.add(429);
  // A role, a scope, an account that is no more.
  if (!['anyone', 'host'].includes(route.access.by)) statuses.add(403);
  if (route.isForOwnPages) statuses.add(403);
  if (route.params) statuses.add(404);
  // Also without a schema for one: what is sent is read, and may be too large or of another type.
  if (route.method !== 'GET') for (const status of [413, 415]) statuses.add(status);
  if (takesIdempotencyKey(route)) for (const status of [409, 422]) statuses.add(status);
  return [...statuses].sort((a, b) => a - b);
}

/** What an Idempotency-Key may be: visible ASCII characters. */
export const idempotencyKeyPattern = '^[!-~]{1,255}$';

/** Whether a repeat of a request to this route can be told by its key. */
export function takesIdempotencyKey({ method, access }: Route): boolean {
  return method === 'POST' && access.by === 'team' && access.keyScope !== null;
}
