import { Type } from 'typebox';
import { byTeam } from './access.ts';
import { wireId } from './fields.ts';

export const SandboxParams = Type.Object({ id: wireId('sandbox') });

/** What routes of one sandbox have in common. */
export const ofSandbox = { params: SandboxParams, access: byTeam('sandboxes') } as const;

/** What can come back from a host and its guests, besides what every route can answer. */
export const hostErrors = [403, 409, 413, 429, 501, 502, 503, 504, 507] as const;

/** Routes that change a sandbox's state: accepted at once, waited for when the client prefers. */
export const sandboxCommand = { ...ofSandbox, errors: hostErrors, canWait: true } as const;

/** Routes that speak with a running guest. */
export const guestCall = { ...ofSandbox, errors: hostErrors } as const;
