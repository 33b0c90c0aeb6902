import type { IncomingMessage, ServerResponse } from 'node:http';
import { AppError, errorCodes, toAppError } from '@aviary/core';
import { logInternalError } from './log-internal-error.ts';
import { fromNodeError } from './node-error.ts';

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

export function sendEmpty(response: ServerResponse, status = 204): void {
  response.writeHead(status);
  response.end();
}

/** An error in the shape that E2B's SDKs read: `{"code": HTTP status, "message"}`. Ends a response that had begun. */
export function sendError(response: ServerResponse, error: unknown): void {
  const appError = toAppError(fromNodeError(error));
  logInternalError(appError);
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const status = errorCodes[appError.code].http;
  // Several codes have one status: the host reads the code itself.
  response.setHeader('x-aviary-code', appError.code);
  // The rest of an upload that was refused is not read, so the connection cannot carry another request.
  response.setHeader('connection', 'close');
  sendJson(response, status, { code: status, message: appError.message });
}

/** Aborts when the client goes before its answer is out. */
export function clientSignal(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  // It may have gone while the request was read; that is told once only.
  if (response.closed) gone.abort();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort();
  });
  return gone.signal;
}

/** The JSON object a request carries; an empty body is an empty object. Throws `invalid_request`, `payload_too_large`. */
export async function readJsonObject(request: IncomingMessage, maxBytes: number): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > maxBytes) throw new AppError('payload_too_large', `the body has more than ${maxBytes} bytes`);
    parts.push(part);
  }
  if (length === 0) return {};
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch (error) {
    throw new AppError('invalid_request', 'the body is not JSON', { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AppError('invalid_request', 'the body must be a JSON object');
  }
  return value as Record<string, unknown>;
}
