import { Type } from 'typebox';
import { wireId } from './fields.ts';

export const SandboxParams = Type.Object({ id: wireId('sandbox') });

/** What routes of one sandbox have in common. */
export const ofSandbox = { params: SandboxParams, auth: 'api_key' } as const;

/** Routes that change a sandbox's state: accepted at once, waited for when the client prefers. */
export const sandboxCommand = { ...ofSandbox, errors: [409, 502, 503, 504, 507], canWait: true } as const;

/** Routes that speak with a running guest. */
export const guestCall = { ...ofSandbox, errors: [409, 502, 503, 504, 507] } as const;
