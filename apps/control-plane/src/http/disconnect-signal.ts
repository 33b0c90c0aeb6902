import type { FastifyReply } from 'fastify';

/** Aborts when the client goes before its answer is out. (A request's own `close` comes as soon as its body is read.) */
export function disconnectSignal({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController();
  raw.once('close', () => {
    if (!raw.writableFinished) gone.abort();
  });
  return gone.signal;
}
