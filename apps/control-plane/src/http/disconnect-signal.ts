import type { FastifyReply } from 'fastify';
import { callEnd } from './open-calls.ts';

/**
 * Aborts when the client goes before its answer is out, or is no longer let in. (A request's own `close` comes as soon as its body
 * is read.)
 */
export function disconnectSignal({ raw, request }: FastifyReply): AbortSignal {
  const gone = new AbortController();
  raw.once('close', () => {
    if (!raw.writableFinished) gone.abort();
  });
  return AbortSignal.any([gone.signal, callEnd(request).signal]);
}
