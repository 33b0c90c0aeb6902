import { type Sandbox, sandboxRoutes } from '@aviary/api-contract';
import { AppError, type ErrorCode, formatId, parseId, type SandboxStatus, sandboxStatusTraits } from '@aviary/core';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ServiceContext } from '../context.ts';
import type { PlacementOptions } from '../hosts/placement.ts';
import { joinCursor, splitCursor } from '../http/cursor.ts';
import { disconnectSignal } from '../http/disconnect-signal.ts';
import { readKeyed } from '../http/idempotent.ts';
import { readWaitMs } from '../http/prefer-wait.ts';
import { type ApiDeps, registerRoutes, type TeamCaller } from '../http/register-routes.ts';
import type { Accepted, CommandContext, CommandDeps } from '../operations/accept-command.ts';
import { createSandbox } from './create-sandbox.ts';
import { deleteSandbox } from './delete-sandbox.ts';
import { forkSandbox } from './fork-sandbox.ts';
import { pauseSandbox } from './pause-sandbox.ts';
import { getSandbox, listSandboxes, type SandboxRow } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';
import type { SettledWatch } from './settled-watch.ts';

export type SandboxRouteDeps = CommandDeps &
  ApiDeps &
  Pick<ServiceContext, 'database' | 'clock' | 'logger'> & { placement: PlacementOptions; watch: SettledWatch };

/** Create, list, get, delete, pause, fork. */
export function registerSandboxRoutes(app: FastifyInstance, deps: SandboxRouteDeps): void {
  registerRoutes(app, deps, {
    table: sandboxRoutes,
    handlers: {
      createSandbox: async ({ caller, body, request, reply }) => {
        const accepted = await createSandbox(deps, commandContext(caller, request), body);
        return answerCommand(deps, { caller, request, reply, accepted, wants: 'running', settledStatus: 201 });
      },
      listSandboxes: async ({ caller, query }) => {
        const limit = query.limit ?? 50;
        const [before] = splitCursor(query.cursor);
        const rows = await listSandboxes(deps.database.db, {
          teamId: caller.teamId,
          limit: limit + 1,
          ...(query.status === undefined ? {} : { statuses: query.status.split(',') as SandboxStatus[] }),
          ...(before === undefined ? {} : { before: parseId('sandbox', before, 'cursor') }),
        });
        const page = rows.slice(0, limit);
        const last = rows.length > limit ? page.at(-1) : undefined;
        return { items: page.map(viewSandbox), next_cursor: last ? joinCursor(formatId('sandbox', last.id)) : null };
      },
      getSandbox: async ({ caller, params }) =>
        viewSandbox(await getSandbox(deps.database.db, caller.teamId, parseId('sandbox', params.id, 'id'))),
      deleteSandbox: async ({ caller, params, request, reply }) => {
        const accepted = await deleteSandbox(
          deps,
          commandContext(caller, request),
          parseId('sandbox', params.id, 'id'),
        );
        return answerCommand(deps, { caller, request, reply, accepted, wants: 'stopped', settledStatus: 200 });
      },
      pauseSandbox: async ({ caller, params, body, request, reply }) => {
        const asked = { sandboxId: parseId('sandbox', params.id, 'id'), isForced: body.force ?? false };
        const accepted = await pauseSandbox(deps, commandContext(caller, request), asked);
        return answerCommand(deps, { caller, request, reply, accepted, wants: 'paused', settledStatus: 200 });
      },
      forkSandbox: async ({ caller, params, body, request, reply }) => {
        const sandboxId = parseId('sandbox', params.id, 'id');
        const { body: accepted, isReplay } = await forkSandbox(deps, commandContext(caller, request), {
          sandboxId,
          request: body,
        });
        markReplay(reply, isReplay);
        const waitMs = readWaitMs(request);
        const rows = await Promise.all(
          accepted.items.map(({ id }) => waitSettled(deps, { caller, reply, id, waitMs })),
        );
        const items = rows.map(viewSandbox);
        return { status: rows.every((row) => row.status === 'running') ? 201 : 202, body: { items } };
      },
    },
  });
}

/** A command's context: team, actor, and the idempotency key if one was sent. */
export function commandContext(caller: TeamCaller, request: FastifyRequest): CommandContext {
  return { teamId: caller.teamId, actor: caller.actor, ...readKeyed(request, caller.teamId) };
}

/** Answers 202 at once, or what came of it when the client prefers to wait. */
export async function answerCommand<S extends 200 | 201>(
  deps: SandboxRouteDeps,
  answer: {
    caller: TeamCaller;
    request: FastifyRequest;
    reply: FastifyReply;
    accepted: Accepted<Sandbox>;
    wants: SandboxStatus;
    settledStatus: S;
  },
): Promise<{ status: 202 | S; body: Sandbox }> {
  const { caller, request, reply, accepted, wants, settledStatus } = answer;
  const { id } = accepted.body;
  markReplay(reply, accepted.isReplay);
  reply.header('location', `/v1/sandboxes/${id}`);
  const waitMs = readWaitMs(request);
  if (waitMs === 0) return { status: 202, body: accepted.body };
  const row = await waitSettled(deps, { caller, reply, id, waitMs });
  if (sandboxStatusTraits[row.status].transitional) return { status: 202, body: viewSandbox(row) };
  // A rewind that was refused leaves its sandbox running, as wanted, and a reason. A stop that its host has not heard of is one.
  const isDone = row.status === wants && (wants !== 'running' || row.status_reason === null);
  const failure = isDone ? null : await findFailure(deps, row);
  if (row.status !== wants || failure) throw settledOtherwise(row, { wants, failure });
  return { status: settledStatus, body: viewSandbox(row) };
}

function waitSettled(
  deps: SandboxRouteDeps,
  { caller, reply, id, waitMs }: { caller: TeamCaller; reply: FastifyReply; id: string; waitMs: number },
): Promise<SandboxRow> {
  const options = {
    teamId: caller.teamId,
    id: parseId('sandbox', id),
    timeoutMs: waitMs,
    signal: disconnectSignal(reply),
  };
  return deps.watch.wait(deps, options);
}

type Failure = { code: string; message: string; details?: Record<string, unknown> } | null;

/** The error of the sandbox's last finished operation; null when it went well. */
async function findFailure({ database }: SandboxRouteDeps, row: SandboxRow): Promise<Failure> {
  const operation = await database.db
    .selectFrom('operations')
    .select('error')
    .where('sandbox_id', '=', row.id)
    .where('state', '<>', 'running')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
  return operation?.error ?? null;
}

/** The error of a command whose sandbox settled elsewhere: the failed operation's own code, reason and details. */
function settledOtherwise(row: SandboxRow, { wants, failure }: { wants: SandboxStatus; failure: Failure }): AppError {
  const code = (failure?.code ?? 'invalid_state') as ErrorCode;
  const reason = row.status_reason ?? failure?.message ?? 'another command came first';
  const where =
    row.status === wants ? `the sandbox is ${row.status} as before` : `the sandbox is ${row.status}, not ${wants}`;
  return new AppError(code === 'not_found' ? 'internal' : code, `${where}: ${reason}`, {
    details: {
      ...failure?.details,
      sandbox_id: viewSandbox(row).id,
      status: row.status,
      status_reason: row.status_reason,
    },
  });
}

function markReplay(reply: FastifyReply, isReplay: boolean): void {
  if (isReplay) reply.header('idempotency-replayed', 'true');
}
