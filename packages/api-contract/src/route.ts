import type { TSchema } from 'typebox';
import type { RouteAccess } from './access.ts';

/** The chapters of the API's document. */
export type RouteTag =
  | 'sandboxes'
  | 'data'
  | 'generations'
  | 'snapshots'
  | 'operations'
  | 'hosts'
  | 'accounts'
  | 'teams'
  | 'api_keys'
  | 'audit'
  | 'admin'
  | 'service';

/** A route of the public API: what goes in, what comes out, who may call it. */
export interface Route {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With `{name}` for parameters, as OpenAPI writes them. */
  path: string;
  summary: string;
  /** Between the parts of the platform: not in the public document. */
  isInternal?: boolean;
  /** A request body and an answer as they may look. */
  example?: { request?: unknown; reply?: unknown };
  /** What the summary leaves open: limits, order, what happens meanwhile. */
  description?: string;
  tag: RouteTag;
  access: RouteAccess;
  params?: TSchema;
  query?: TSchema;
  body?: TSchema;
  /** A body that need not be sent. */
  isBodyOptional?: boolean;
  /** Media type of the body. Default application/json. */
  bodyType?: string;
  /** Answers by status; null for one without a body, a string for a media type that is not JSON. */
  replies: Record<number, TSchema | string | null>;
  /** Of a WebSocket: the JSON text frames that each side sends. */
  frames?: { client: TSchema; server: TSchema };
  /** Error statuses that this route can answer beyond those that every route of its kind can. */
  errors?: readonly number[];
  /**
   * Leaves a session or a cookie with whatever browser calls it. Pages of other sites are refused with 403: they would sign their visitors in to an
   * account of their choice. Programs, which are no pages, are not.
   */
  isForOwnPages?: boolean;
  /** Nobody counts requests to it: a probe must hear how the service is. */
  isUnlimited?: boolean;
  /** Leaves an operation, named in the header `Operation-Id`; `Prefer: wait=SECONDS` holds the answer until that has ended. */
  canWait?: boolean;
}

/** The routes of one domain, by operation id. */
export type RouteTable = Record<string, Route>;
