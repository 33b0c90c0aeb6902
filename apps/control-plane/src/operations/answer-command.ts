import { AppError, formatId } from '@aviary/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { disconnectSignal } from '../http/disconnect-signal.ts';
import { readKeyed } from '../http/idempotent.ts';
import { readWaitMs } from '../http/prefer-wait.ts';
import type { TeamCaller } from '../http/register-routes.ts';
import type { Accepted, CommandContext } from './accept-command.ts';
import { type OperationRow, operationError } from './operation-store.ts';
import type { OperationWaits } from './operation-waits.ts';

/** A command's context: team, actor, and the idempotency key if one was sent. */
export function commandContext(caller: TeamCaller, request: FastifyRequest): CommandContext {
  return { teamId: caller.teamId, actor: caller.actor, ...readKeyed(request, caller.teamId) };
}

/**
 * Answers a command: 202 at once, or with `Prefer: wait` what its operation came to, whatever others did to its subject since.
 * `Operation-Id` names the operation in every case.
 */
export async function answerCommand<T, S extends number>(
  { waits }: { waits: OperationWaits },
  answer: {
    caller: TeamCaller;
    request: FastifyRequest;
    reply: FastifyReply;
    accepted: Accepted<T>;
    /** The status of a command that has done what it was to do. */
    settledStatus: S;
  },
): Promise<{ status: 202 | S; body: T }> {
  const { caller, request, reply, accepted, settledStatus } = answer;
  const { operationId, body, isReplay } = accepted;
  if (isReplay) reply.header('idempotency-replayed', 'true');
  if (operationId === null) return { status: settledStatus, body };
  reply.header('operation-id', formatId('operation', operationId));
  const timeoutMs = readWaitMs(request);
  if (timeoutMs === 0) return { status: 202, body };
  const options = { timeoutMs, signal: disconnectSignal(reply) };
  const row = await waits.wait(caller.teamId, operationId, options);
  switch (row.state) {
    case 'running':
      return { status: 202, body };
    case 'succeeded':
      reply.header('server-timing', serverTiming(row));
      // Written by the handler of this very command.
      return { status: settledStatus, body: row.result as T };
    case 'failed':
    case 'superseded':
      throw withOperation(row);
  }
}

/** The steps in the form that browsers' tools show (W3C Server Timing). */
function serverTiming({ phases }: OperationRow): string {
  return phases.map(({ name, ms }) => `${name};dur=${ms}`).join(', ');
}

function withOperation(row: OperationRow): AppError {
  const { code, message, details } = operationError(row);
  return new AppError(code, message, { details: { ...details, operation_id: formatId('operation', row.id) } });
}
