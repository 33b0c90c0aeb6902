import { AppError, type AuditStatus, type EventId, type Id, type SandboxId, type TeamId } from '@aviary/core';
import { withDeadline } from '@aviary/service-kit';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Actor } from '../context.ts';

/** Something that happened to a sandbox. */
export interface SandboxEvent {
  /** The same whenever it is told again. */
  id: EventId;
  /** `sandbox.created`, or `sandbox.` and the transition, as `sandbox.start_succeeded` or `sandbox.delete_requested`. */
  type: string;
  teamId: TeamId;
  sandboxId: SandboxId | null;
  /** Of a transition `{ status, reason, revision }`. */
  payload: Record<string, unknown>;
  at: Date;
}

/** Something that happened to an account or an API key: a log-in, a failed one, a new password, a key that was made. */
export interface AuthEvent {
  /** The same whenever it is told again: the audit entry's. */
  id: Id<'auditEntry'>;
  /** As the audit log names it: `user.log_in`, `api_key.revoke`, `platform.claim`. */
  action: string;
  /** Whose log it is in: the platform's own for what concerns no team. */
  teamId: TeamId;
  actor: Actor;
  /** The bare id of the user or key. */
  resourceId: string | null;
  status: AuditStatus;
  metadata: Record<string, unknown>;
  at: Date;
}

/**
 * What a module does when something happened. Events are told after their transaction is kept, in its order, to one replica at a
 * time, **at least once**: one may come again after a crash, so keep its `id` where that matters. A hook that was never there
 * begins with what happens from then on; one that was away for a while hears what it missed. It has ten seconds, and `signal` aborts
 * then. When it throws it is told again, later and later; after eight times the event is given up with an error in the log. What a hook
 * does never touches the request, the sandbox or other hooks, but holds up its own next event.
 */
export interface ModuleHooks {
  onSandboxEvent?(event: SandboxEvent, signal: AbortSignal): Promise<void>;
  onAuthEvent?(event: AuthEvent, signal: AbortSignal): Promise<void>;
  /**
   * Middleware: before every request to a route, of the core's as well, and before anybody knows who calls. Throws an AppError to
   * refuse it (with a status that every route may answer: 400, 429 or 503), or sends an answer of its own. It has five seconds.
   */
  onRequest?(request: FastifyRequest, reply: FastifyReply): Promise<void>;
}

const requestTimeoutMs = 5_000;

/** Calls a module's middleware before each request to `app`. */
export function addRequestHook(app: FastifyInstance, name: string, { onRequest }: ModuleHooks): void {
  if (!onRequest) return;
  const what = `the middleware of ${name}`;
  app.addHook('onRequest', async (request, reply) => {
    try {
      await withDeadline({ what, timeoutMs: requestTimeoutMs }, () => onRequest(request, reply));
    } catch (error) {
      if (!(error instanceof AppError && error.code === 'deadline_exceeded')) throw error;
      throw new AppError('unavailable', error.message, { retryAfterSec: 1 });
    }
    return reply.sent ? reply : undefined;
  });
}
