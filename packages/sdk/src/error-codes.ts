import type { ErrorCode } from '@aviary/core';

/** The API's codes; a type-checked list of its own, so that the client needs no other package when it runs. */
const errorCodes = {
  invalid_request: true,
  unauthorized: true,
  forbidden: true,
  not_found: true,
  method_not_allowed: true,
  already_exists: true,
  invalid_state: true,
  conflict: true,
  stale_epoch: true,
  payload_too_large: true,
  unsupported_media_type: true,
  idempotency_mismatch: true,
  rate_limited: true,
  quota_exceeded: true,
  cancelled: true,
  internal: true,
  integrity: true,
  not_implemented: true,
  unavailable: true,
  host_unavailable: true,
  no_capacity: true,
  provider_unavailable: true,
  guest_unavailable: true,
  deadline_exceeded: true,
  disk_full: true,
} as const satisfies Record<ErrorCode, true>;

/** True for a code that this version of the client knows. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorCodes, text);
}
