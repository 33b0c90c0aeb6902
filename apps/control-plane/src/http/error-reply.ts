import { type ErrorReply, patternRule } from '@aviary/api-contract';
import { AppError, type ErrorCode, errorCodes, toAppError } from '@aviary/core';
import { postgresErrorCode } from '@aviary/database';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { FastifySchemaValidationError } from 'fastify/types/schema.js';

/** How an API tells an error: the body of its answer. */
export type ErrorBody = (error: AppError, requestId: string) => unknown;

/** The body of every error of our API. */
export function errorBody(error: AppError, requestId: string): ErrorReply {
  return { error: { code: error.code, message: error.message, request_id: requestId, details: error.details } };
}

export interface ErrorOptions {
  tell?: ErrorBody;
  /** Whether the route may answer this status; what it may not becomes a fault of ours. */
  isAllowed?: (status: number) => boolean;
}

/** Statuses that clients repeat by themselves when told to. */
const mayRetry: readonly number[] = [429, 503];

/** Answers with an error; what we did not expect is logged whole and told in general words. */
export function sendError(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  { tell = errorBody, isAllowed = () => true }: ErrorOptions = {},
): FastifyReply {
  const known = withReportHint(allowedError(toHttpError(error), isAllowed));
  const status = errorCodes[known.code].http;
  // Ours by name (a host that is away, no room) is an answer; what nobody foresaw is a fault of ours, told with its stack.
  if (known.code === 'internal')
    request.log.error({ requestId: request.id, err: error, code: known.code }, 'request failed');
  else if (status >= 500)
    request.log.warn({ requestId: request.id, code: known.code, reason: known.message }, 'request failed');
  const { retryAfterSec } = known;
  if (retryAfterSec !== undefined && mayRetry.includes(status)) reply.header('retry-after', String(retryAfterSec));
  return reply.status(status).header('x-request-id', request.id).type('application/json').send(tell(known, request.id));
}

function allowedError(error: AppError, isAllowed: (status: number) => boolean): AppError {
  const status = errorCodes[error.code].http;
  if (isAllowed(status)) return error;
  const message = `this route answers ${status} ${error.code}, which its contract does not name: ${error.message}`;
  return new AppError('internal', message, { cause: error });
}

/** What nobody foresaw is found in the logs by an id: the operation's, where the error names one, or else the request's. */
function withReportHint(error: AppError): AppError {
  if (error.code !== 'internal' || 'operation_id' in error.details) return error;
  const message = `${error.message}; give the request id when you report it`;
  return new AppError('internal', message, { details: error.details, cause: error.cause });
}

/** Ours as it is; the framework's and the store's in our codes; anything else `internal`. */
function toHttpError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (!(error instanceof Error)) return toAppError(error);
  const fastify = error as Partial<FastifyError> & Error;
  if (fastify.validation) return validationError(fastify as FastifyError);
  // 22: data exceptions (a number out of range, text that is not UTF-8): what the client sent.
  if (postgresErrorCode(error)?.startsWith('22')) {
    return new AppError('invalid_request', 'a value in the request cannot be stored', { cause: error });
  }
  const byStatus: Record<number, ErrorCode> = { 413: 'payload_too_large', 415: 'unsupported_media_type' };
  const status = fastify.statusCode ?? 500;
  if (status >= 400 && status < 500) {
    return new AppError(byStatus[status] ?? 'invalid_request', frameworkMessage(status, error), { cause: error });
  }
  return toAppError(error);
}

function frameworkMessage(status: number, error: Error): string {
  if (status === 413) return 'the request body is too large';
  if (status === 415) return 'the Content-Type is not one that this route takes; see /openapi.yaml';
  return error.message.slice(0, 500);
}

function validationError(error: FastifyError): AppError {
  const [first] = error.validation ?? [];
  const parameters = first?.params ?? {};
  const named = parameters['missingProperty'] ?? parameters['additionalProperty'] ?? parameters['propertyName'];
  const inside = (first?.instancePath ?? '').split('/').filter(Boolean);
  const field = [...inside, ...(typeof named === 'string' ? [named] : [])].join('.').slice(0, 200);
  const place = { body: 'body', querystring: 'query', params: 'path', headers: 'headers' }[
    error.validationContext ?? 'body'
  ];
  const name = field || place;
  return new AppError('invalid_request', first ? describeFault(name, first) : `${name} is not valid`, {
    details: { field: name },
  });
}

/** What is wrong with `field`, for people. */
function describeFault(
  field: string,
  fault: FastifySchemaValidationError & { data?: unknown; parentSchema?: unknown },
): string {
  const { keyword, params } = fault;
  switch (keyword) {
    case 'additionalProperties':
      return `${field} is not a field that this route knows`;
    case 'required':
      return `${field} is missing`;
    case 'pattern': {
      const tell = patternRule(fault.parentSchema);
      return tell ? tell(field, String(fault.data)) : `${field} ${fault.message}`;
    }
    case 'minimum':
      return `${field} must be at least ${params['limit']}`;
    case 'maximum':
      return `${field} must be at most ${params['limit']}`;
    case 'enum':
      return `${field} must be one of ${[params['allowedValues']].flat().join(', ')}`;
    default:
      return `${field} ${fault.message ?? 'is not valid'}`;
  }
}

/** The error of a route or method that does not exist. */
export function unknownRoute(method: string, allowed: readonly string[]): AppError {
  if (allowed.length === 0) return new AppError('not_found', 'there is no such route; /docs lists them');
  return new AppError(
    'method_not_allowed',
    `${method} is not allowed here; use ${allowed.filter((one) => one !== 'HEAD').join(' or ')}`,
    {
      details: { allowed },
    },
  );
}
