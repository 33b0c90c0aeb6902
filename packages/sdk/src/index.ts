export { AviaryError, type AviaryErrorOptions, type ClientErrorCode } from './aviary-error.ts';
export { AviaryClient, type AviaryClientOptions, defaultApiUrl } from './client.ts';
export type { ExecStreamOptions } from './exec-stream.ts';
export type { FileOptions, Files } from './files.ts';
export type * from './resources.ts';
export type { RetryPolicy } from './retry-policy.ts';
export type { Sandboxes } from './sandboxes.ts';
export type { Generations, Snapshots } from './saved-states.ts';
export type { CallOptions, WaitOptions } from './transport.ts';
