import { idempotencyKeyPattern } from '@aviary/api-contract';
import { AppError, type TeamId } from '@aviary/core';
import type { FastifyRequest } from 'fastify';
import type { IdempotencyKeys } from '../idempotency/idempotency-keys.ts';
import { hashRequest, type KeyedRequest } from '../idempotency/key-store.ts';
import { onlyStatus } from './answer.ts';
import type { Call, TeamCaller } from './register-routes.ts';

const keyPattern = new RegExp(idempotencyKeyPattern);

/** The request's Idempotency-Key, if it has one. */
export function readKeyed(request: FastifyRequest, teamId: TeamId): { keyed?: KeyedRequest } {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return {};
  if (typeof key !== 'string' || !keyPattern.test(key)) {
    throw new AppError('invalid_request', 'Idempotency-Key must be 1 to 255 visible ASCII characters', {
      details: { field: 'Idempotency-Key' },
    });
  }
  return { keyed: { teamId, key, requestHash: hashRequest(request.method, request.url, request.body) } };
}

/** For requests whose work is not a transaction: runs `work` once per key, and gives repeats its answer. */
export async function runOnceByKey<T>(
  { idempotency }: { idempotency: IdempotencyKeys },
  { route, request, reply, caller }: Pick<Call, 'route' | 'request' | 'reply'> & { caller: TeamCaller },
  work: () => Promise<T>,
): Promise<T> {
  const { keyed } = readKeyed(request, caller.teamId);
  if (!keyed) return work();
  const only = onlyStatus(route);
  const { status, body, isReplay } = await idempotency.runOnce(keyed, async () => {
    const answer = await work();
    return only === undefined ? (answer as { status: number; body: unknown }) : { status: only, body: answer };
  });
  if (isReplay) reply.header('idempotency-replayed', 'true');
  return (only === undefined ? { status, body } : body) as T;
}
