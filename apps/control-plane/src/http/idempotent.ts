import { idempotencyKeyPattern } from '@aviary/api-contract';
import { AppError, must, type TeamId } from '@aviary/core';
import type { FastifyRequest } from 'fastify';
import type { ServiceContext } from '../context.ts';
import { claimKey, hashRequest, type KeyedRequest, releaseKey, storeReply } from '../idempotency.ts';
import { onlyStatus } from './answer.ts';
import type { Call, TeamCaller } from './register-routes.ts';

const keyPattern = new RegExp(idempotencyKeyPattern);
/** Larger answers are not kept: a repeat is refused instead of being run again. */
const maxStoredBytes = 1024 * 1024;

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

/** For requests whose work is not a transaction, of routes with one status: runs `work` once per key, and gives repeats its answer. */
export async function runOnceByKey<T>(
  { database }: Pick<ServiceContext, 'database'>,
  { route, request, reply, caller }: Pick<Call, 'route' | 'request' | 'reply'> & { caller: TeamCaller },
  work: () => Promise<T>,
): Promise<T> {
  const { keyed } = readKeyed(request, caller.teamId);
  if (!keyed) return work();
  const known = await claimKey(database.db, keyed);
  if (known) {
    reply.header('idempotency-replayed', 'true');
    return known.body as T;
  }
  try {
    const body = await work();
    const status = must(onlyStatus(route), 'an answer that is kept for its key has one status');
    if (Buffer.byteLength(JSON.stringify(body ?? null)) <= maxStoredBytes)
      await storeReply(database.db, keyed, { status, body });
    return body;
  } catch (error) {
    await releaseKey(database.db, keyed);
    throw error;
  }
}
