import type { AuditLogEntry } from './resources.ts';
import type { ApiRequest, CallOptions, Transport } from './transport.ts';

/** Which entries are wanted; what is absent is not asked for. */
export interface AuditQuery {
  /** As in `sandbox.create`. */
  actions?: readonly string[];
  /** As in `sandbox`. */
  resourceTypes?: readonly string[];
  /** A person's, a key's or a host's id, or `system`. */
  actor?: string;
  /** RFC 3339; entries from then on. */
  from?: string;
  /** RFC 3339; entries before then. */
  to?: string;
  /** Items fetched per request, 1 to 200. The iterator goes on over all pages. */
  pageSize?: number;
}

/** Who did what in the team: for people who have logged in. Every method throws AviaryError. */
export class Audit {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Newest first, page after page as it is read: none is skipped or repeated, however many are written meanwhile. */
  list(query: AuditQuery = {}, options: CallOptions = {}): AsyncGenerator<AuditLogEntry, void, undefined> {
    return this.#transport.pages({ ...auditRequest('/v1/audit-logs', query), ...options });
  }
}

/** The request for the entries of one log. */
export function auditRequest(path: string, { actions, resourceTypes, pageSize, ...same }: AuditQuery): ApiRequest {
  const list = (items: readonly string[] | undefined) => (items?.length ? items.join(',') : undefined);
  const query = { ...same, limit: pageSize ?? 200, action: list(actions), resource_type: list(resourceTypes) };
  return { method: 'GET', path, query };
}
