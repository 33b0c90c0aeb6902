import { errorText } from '@aviary/core';
import { fromNodeError, nodeErrorCode } from '@aviary/service-kit';

/** Why something failed, as a status reason says it: for people, so never in the operating system's words. */
export function failureReason(error: unknown): string {
  const known = fromNodeError(error);
  const code = nodeErrorCode(known);
  return code === undefined ? errorText(known) : `the host failed (${code}); its log says at what`;
}
