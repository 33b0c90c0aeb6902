import { AppError, type TeamId } from '@aviary/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ServiceContext } from '../context.ts';
import { claimKey, hashRequest, type KeyedRequest, releaseKey, storeReply } from '../idempotency.ts';

const keyPattern = /^[\x21-\x7e]{1,255}$/;
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

/** For requests whose work is not a transaction: runs `work` once per key, and gives repeats its answer. */
export async function runOnceByKey<T>(
  { database }: Pick<ServiceContext, 'database'>,
  { request, reply, teamId }: { request: FastifyRequest; reply: FastifyReply; teamId: TeamId },
  work: () => Promise<{ status: number; body: T }>,
): Promise<T> {
  const { keyed } = readKeyed(request, teamId);
  if (!keyed) return answer(reply, await work());
  const known = await claimKey(database.db, keyed);
  if (known) {
    reply.header('idempotency-replayed', 'true');
    return answer(reply, { status: known.status, body: known.body as T });
  }
  try {
    const done = await work();
    if (Buffer.byteLength(JSON.stringify(done.body ?? null)) <= maxStoredBytes)
      await storeReply(database.db, keyed, done);
    return answer(reply, done);
  } catch (error) {
    await releaseKey(database.db, keyed);
    throw error;
  }
}

function answer<T>(reply: FastifyReply, { status, body }: { status: number; body: T }): T {
  reply.status(status);
  return body;
}
