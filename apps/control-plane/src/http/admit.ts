import type { Route, RouteAccess } from '@aviary/api-contract';
import { AppError } from '@aviary/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AccessSubject } from './access-change-store.ts';
import type { Authenticate, Callers, TeamCaller } from './callers.ts';
import { callEnd, type OpenCalls } from './open-calls.ts';
import { RateLimited, type RateLimits, rateLimitHeaders } from './rate-limits.ts';

export interface AdmitDeps {
  authenticate: Authenticate;
  /** Counts requests; default: nobody does. */
  rateLimits?: RateLimits;
}

type AnyCaller = Callers[RouteAccess['by']];

/** Finds out who calls, if that is not `known`, and counts the request for whoever that is. */
export async function admit(
  { rateLimits, authenticate }: AdmitDeps,
  {
    route,
    request,
    reply,
    known,
  }: { route: Route; request: FastifyRequest; reply: FastifyReply; known?: TeamCaller | undefined },
): Promise<AnyCaller> {
  if (!rateLimits || route.isUnlimited) return known ?? authenticate(route, request);
  try {
    const caller = known ?? (await authenticateCounted({ rateLimits, authenticate }, route, request));
    const isAnyone = route.access.by === 'anyone';
    const allowance = isAnyone ? rateLimits.takeAddress(request.ip) : rateLimits.take(subjectsOf(caller));
    if (allowance) reply.headers(rateLimitHeaders(allowance));
    return caller;
  } catch (error) {
    if (error instanceof RateLimited) reply.headers(rateLimitHeaders(error.allowance));
    throw error;
  }
}

/** Finds out who calls, and counts a credential that is not good. */
export async function authenticateCounted(
  { rateLimits, authenticate }: AdmitDeps,
  route: Route,
  request: FastifyRequest,
): Promise<AnyCaller> {
  try {
    return await authenticate(route, request);
  } catch (error) {
    if (error instanceof AppError && error.code === 'unauthorized') rateLimits?.takeRefusal(request.ip);
    throw error;
  }
}

/** Keeps the call among the open ones until the function that it returns is called; undefined when nobody could be refused it. */
export function keepOpen(
  { openCalls, authenticate }: Pick<AdmitDeps, 'authenticate'> & { openCalls?: OpenCalls },
  {
    route,
    request,
    caller,
    end,
  }: { route: Route; request: FastifyRequest; caller: AnyCaller; end: (error: AppError) => void },
): (() => void) | undefined {
  const subjects = subjectsOf(caller);
  if (!openCalls || subjects.length === 0) return undefined;
  const admitAgain = (cameAt: Date) => authenticate(route, request, { cameAt });
  return openCalls.add({ requestId: request.id, subjects, admitAgain, end });
}

/** By whose right somebody calls, and who is counted for it. Host agents are parts of the platform: nobody's right, and nobody counts theirs. */
function subjectsOf(caller: AnyCaller): AccessSubject[] {
  if (!caller || 'hostId' in caller) return [];
  if ('userId' in caller) return [{ type: 'user', id: caller.userId }];
  const { teamId, via } = caller;
  const self =
    via.type === 'api_key'
      ? ({ type: 'api_key', id: via.keyId } as const)
      : ({ type: 'user', id: via.user.userId } as const);
  return [self, { type: 'team', id: teamId }];
}

/** Answers an open call with `error`, or breaks off the answer that has begun. */
export function endCall(request: FastifyRequest, reply: FastifyReply, error: AppError): void {
  callEnd(request).abort(error);
  if (reply.raw.headersSent) reply.raw.destroy();
}
