import { createHash } from 'node:crypto';
import { isSameSecret } from './access-tokens.ts';

export interface SignedFileRequest {
  /** The path as the caller wrote it, not normalised. */
  path: string;
  operation: 'read' | 'write';
  username: string;
  signature: string;
  /** Unix seconds, as the caller wrote them; absent for a signature that does not expire. */
  expiration: string | undefined;
}

/** The signature of a file URL: SHA-256 over the request and the sandbox's token (reference e2b-wire 2.4). */
export function signFileRequest(request: Omit<SignedFileRequest, 'signature'>, accessToken: string): string {
  const { path, operation, username, expiration } = request;
  const fields = [path, operation, username, accessToken, ...(expiration === undefined ? [] : [expiration])];
  const hash = createHash('sha256').update(fields.join(':')).digest('base64');
  return `v1_${hash.replace(/=+$/, '')}`;
}

/** Checks a signed file URL; answers why it is refused, or undefined when it is good. */
export function refuseSignature(request: SignedFileRequest, accessToken: string, nowMs: number): string | undefined {
  if (!isSameSecret(request.signature, signFileRequest(request, accessToken))) {
    return 'the signature does not match this path, operation and user; sign the URL again';
  }
  if (request.expiration === undefined) return undefined;
  const expiresAt = Number(request.expiration);
  if (!Number.isSafeInteger(expiresAt)) return 'signature_expiration must be whole Unix seconds';
  return expiresAt * 1_000 < nowMs ? 'the signature has expired; sign the URL again' : undefined;
}
