import type { TSchema } from 'typebox';
import * as s from './schemas.ts';

/** Who may call a route: anybody, a team by its API key, or a host agent by its token. */
export type RouteAuth = 'none' | 'api_key' | 'host';

export interface Route {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** With `{name}` for parameters, as OpenAPI writes them. */
  path: string;
  summary: string;
  tag: 'sandboxes' | 'data' | 'generations' | 'snapshots' | 'hosts' | 'service';
  auth: RouteAuth;
  params?: TSchema;
  query?: TSchema;
  body?: TSchema;
  /** A body that need not be sent. */
  isBodyOptional?: boolean;
  /** Media type of the body. Default application/json. */
  bodyType?: string;
  /** Answers by status; null for one without a body, a string for a media type that is not JSON. */
  replies: Record<number, TSchema | string | null>;
  /** Error statuses that this route can answer beyond those that every route of its kind can. */
  errors?: readonly number[];
  /** `Prefer: wait=SECONDS` holds the answer until the sandbox has settled. */
  canWait?: boolean;
}

const sandbox = { tag: 'sandboxes', auth: 'api_key' } as const;
const one = { params: s.SandboxParams, auth: 'api_key' } as const;
const command = { ...one, tag: 'sandboxes', errors: [409, 502, 503, 504, 507], canWait: true } as const;
const data = { ...one, tag: 'data', errors: [409, 502, 503, 504, 507] } as const;

/** Every route of the public API: the server registers from it, and the OpenAPI document is made from it. */
export const routes = {
  createSandbox: {
    ...sandbox,
    method: 'POST',
    path: '/v1/sandboxes',
    summary: 'Create a sandbox',
    body: s.CreateSandbox,
    isBodyOptional: true,
    replies: { 202: s.Sandbox, 201: s.Sandbox },
    errors: [502, 503, 504, 507],
    canWait: true,
  },
  listSandboxes: {
    ...sandbox,
    method: 'GET',
    path: '/v1/sandboxes',
    summary: 'List sandboxes, newest first',
    query: s.ListQuery,
    replies: { 200: s.SandboxPage },
  },
  getSandbox: {
    ...one,
    tag: 'sandboxes',
    method: 'GET',
    path: '/v1/sandboxes/{id}',
    summary: 'Get a sandbox',
    replies: { 200: s.Sandbox },
  },
  deleteSandbox: {
    ...command,
    method: 'DELETE',
    path: '/v1/sandboxes/{id}',
    summary: 'Stop a sandbox for good',
    replies: { 202: s.Sandbox, 200: s.Sandbox },
  },
  pauseSandbox: {
    ...command,
    method: 'POST',
    path: '/v1/sandboxes/{id}/pause',
    summary: 'Save a sandbox and free its memory',
    replies: { 202: s.Sandbox, 200: s.Sandbox },
  },
  resumeSandbox: {
    ...command,
    method: 'POST',
    path: '/v1/sandboxes/{id}/resume',
    summary: 'Bring a paused sandbox back',
    body: s.Resume,
    isBodyOptional: true,
    replies: { 202: s.Sandbox, 200: s.Sandbox },
  },
  pingSandbox: {
    ...data,
    method: 'POST',
    path: '/v1/sandboxes/{id}/ping',
    summary: 'Put off auto-pause',
    replies: { 204: null },
  },
  setTimeout: {
    ...data,
    method: 'POST',
    path: '/v1/sandboxes/{id}/timeout',
    summary: 'Set the idle time before auto-pause',
    body: s.SetTimeout,
    replies: { 200: s.Sandbox },
  },
  forkSandbox: {
    ...command,
    method: 'POST',
    path: '/v1/sandboxes/{id}/fork',
    summary: 'Start copies of a sandbox from its state',
    body: s.Fork,
    isBodyOptional: true,
    replies: { 202: s.SandboxItems, 201: s.SandboxItems },
  },
  listGenerations: {
    ...one,
    tag: 'generations',
    method: 'GET',
    path: '/v1/sandboxes/{id}/generations',
    summary: 'List saved states',
    replies: { 200: s.GenerationItems },
  },
  updateGeneration: {
    auth: 'api_key',
    tag: 'generations',
    method: 'PATCH',
    path: '/v1/sandboxes/{id}/generations/{generation}',
    summary: 'Name or pin a saved state',
    params: s.GenerationParams,
    body: s.UpdateGeneration,
    replies: { 200: s.Generation },
    errors: [409, 503],
  },
  rewindSandbox: {
    ...command,
    tag: 'generations',
    method: 'POST',
    path: '/v1/sandboxes/{id}/rewind',
    summary: 'Go back to a saved state',
    body: s.Rewind,
    replies: { 202: s.Sandbox, 200: s.Sandbox },
  },
  exec: {
    ...data,
    method: 'POST',
    path: '/v1/sandboxes/{id}/exec',
    summary: 'Run a command to its end',
    body: s.Exec,
    replies: { 200: s.ExecResult },
  },
  execStream: {
    ...data,
    method: 'GET',
    path: '/v1/sandboxes/{id}/exec/stream',
    summary: 'Run a command over a WebSocket',
    replies: { 101: null },
  },
  writeFile: {
    ...data,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/write',
    summary: 'Upload a file',
    query: s.FileUploadQuery,
    body: s.FileUpload,
    bodyType: 'multipart/form-data',
    replies: { 204: null },
  },
  readFile: {
    ...data,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/read',
    summary: 'Download a file',
    body: s.FilePath,
    replies: { 200: 'application/octet-stream' },
  },
  listFiles: {
    ...data,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/list',
    summary: 'List a directory',
    body: s.ListFiles,
    replies: { 200: s.FileEntries },
  },
  makeDirectory: {
    ...data,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/mkdir',
    summary: 'Make a directory and its parents',
    body: s.FilePath,
    replies: { 200: s.FileEntryReply },
  },
  removePath: {
    ...data,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/remove',
    summary: 'Remove a file or a directory with all in it',
    body: s.FilePath,
    replies: { 204: null },
  },
  createSnapshot: {
    auth: 'api_key',
    tag: 'snapshots',
    method: 'POST',
    path: '/v1/snapshots',
    summary: 'Make a template from a sandbox',
    body: s.CreateSnapshot,
    replies: { 202: s.Snapshot, 201: s.Snapshot },
    errors: [404, 409, 503],
    canWait: true,
  },
  listSnapshots: {
    auth: 'api_key',
    tag: 'snapshots',
    method: 'GET',
    path: '/v1/snapshots',
    summary: 'List templates of the team and the platform',
    query: s.SnapshotQuery,
    replies: { 200: s.SnapshotPage },
  },
  deleteSnapshot: {
    auth: 'api_key',
    tag: 'snapshots',
    method: 'DELETE',
    path: '/v1/snapshots/{name}',
    summary: 'Delete a template of the team',
    params: s.NameParams,
    replies: { 202: s.Snapshot },
    errors: [409],
  },
  listHosts: {
    auth: 'api_key',
    tag: 'hosts',
    method: 'GET',
    path: '/v1/hosts',
    summary: 'List hosts that the team can use',
    replies: { 200: s.HostItems },
  },
  registerHost: {
    auth: 'none',
    tag: 'hosts',
    method: 'POST',
    path: '/v1/hosts/register',
    summary: 'Register a host agent by its one-time token',
    body: s.RegisterHost,
    replies: { 201: s.HostCredentials },
    errors: [401],
  },
  refreshHost: {
    auth: 'none',
    tag: 'hosts',
    method: 'POST',
    path: '/v1/hosts/auth/refresh',
    summary: 'Renew the credentials of a host agent',
    body: s.RefreshHost,
    replies: { 200: s.HostCredentials },
    errors: [401],
  },
  heartbeat: {
    auth: 'host',
    tag: 'hosts',
    method: 'POST',
    path: '/v1/hosts/{id}/heartbeat',
    summary: 'Say that a host is alive',
    params: s.HostParams,
    body: s.Heartbeat,
    isBodyOptional: true,
    replies: { 204: null },
    errors: [403],
  },
  sandboxEvents: {
    auth: 'host',
    tag: 'hosts',
    method: 'POST',
    path: '/v1/hosts/sandbox-events',
    summary: 'Report what happened to sandboxes',
    body: s.SandboxEvents,
    replies: { 204: null },
  },
  health: {
    auth: 'none',
    tag: 'service',
    method: 'GET',
    path: '/health',
    summary: 'Tell whether the control plane can serve',
    replies: { 200: s.Health },
    errors: [503],
  },
} as const satisfies Record<string, Route>;

export type RouteName = keyof typeof routes;
