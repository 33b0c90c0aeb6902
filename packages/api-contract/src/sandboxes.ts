import { sandboxLimits, sandboxStatuses, startPaths, wireIdSource } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { byTeam } from './access.ts';
import { component } from './component.ts';
import { examplePaused, exampleSandbox } from './examples.ts';
import {
  closed,
  cursor,
  envs,
  limit,
  listOf,
  nullable,
  range,
  templateName,
  text,
  timestamp,
  wireId,
} from './fields.ts';
import { OperationPage, OperationQuery } from './operations.ts';
import type { RouteTable } from './route.ts';
import { hostErrors, ofSandbox, sandboxCommand } from './sandbox-route.ts';

const idleWords = 'Idle seconds before auto-pause; 0 is never.';

export const Sandbox = component(
  'Sandbox',
  Type.Object({
    id: wireId('sandbox'),
    status: Type.Enum([...sandboxStatuses]),
    status_reason: nullable(
      Type.String({ description: 'Why it is in this status, for people; null when there is nothing to say.' }),
    ),
    template: Type.String(),
    vcpus: Type.Integer(),
    memory_mb: Type.Integer({ description: 'MiB.' }),
    disk_size_mb: Type.Integer({ description: 'MiB.' }),
    timeout_sec: Type.Integer({ description: idleWords }),
    metadata: Type.Record(Type.String(), Type.String()),
    start_path: nullable(
      Type.Enum([...startPaths, 'other'], { description: 'How it came to run; null before its first start.' }),
    ),
    host_id: wireId('host'),
    generation_id: nullable(wireId('generation')),
    created_at: timestamp,
    started_at: nullable(timestamp),
    last_active_at: nullable(timestamp),
    last_activity: nullable(Type.String()),
    updated_at: timestamp,
  }),
);
export type Sandbox = Static<typeof Sandbox>;

export const SandboxPage = component(
  'SandboxPage',
  Type.Object({ items: Type.Array(Sandbox), next_cursor: nullable(Type.String()) }),
);
export const SandboxItems = component('SandboxItems', Type.Object({ items: Type.Array(Sandbox) }));

export const CreateSandbox = component(
  'CreateSandbox',
  Type.Object(
    {
      template: Type.Optional(templateName),
      vcpus: Type.Optional(range(sandboxLimits.vcpus)),
      memory_mb: Type.Optional(range(sandboxLimits.memoryMib, 'MiB of memory; those of the template when absent.')),
      disk_size_mb: Type.Optional(
        range(sandboxLimits.diskMib, 'MiB of disk, at least those of the template, which are the default.'),
      ),
      timeout_sec: Type.Optional(range(sandboxLimits.timeoutSec, idleWords)),
      metadata: Type.Optional(
        Type.Record(Type.String(), text(sandboxLimits.metadataBytes), {
          propertyNames: { pattern: '^[^\\u0000]+$', maxLength: 256 },
          maxProperties: sandboxLimits.metadataEntries,
          description: `Your own labels; names and values together at most ${sandboxLimits.metadataBytes} bytes. Forks get them too, but for \`name\`.`,
        }),
      ),
      envs: Type.Optional(envs),
    },
    closed,
  ),
);
export type CreateSandbox = Static<typeof CreateSandbox>;

export const ListQuery = Type.Object({
  limit,
  cursor: cursor(wireIdSource('sandbox')),
  status: listOf(sandboxStatuses, { description: 'Statuses separated by commas; all but `stopped` when absent.' }),
});

export const Pause = component(
  'Pause',
  Type.Object(
    {
      force: Type.Optional(
        Type.Boolean({
          default: false,
          description: 'Stop a guest that does not answer: its disk is saved, its memory is not.',
        }),
      ),
    },
    closed,
  ),
);
export type Pause = Static<typeof Pause>;

export const Fork = component(
  'Fork',
  Type.Object(
    {
      count: Type.Optional(range(sandboxLimits.forkCount)),
      timeout_sec: Type.Optional(range(sandboxLimits.timeoutSec, idleWords)),
    },
    closed,
  ),
);
export type Fork = Static<typeof Fork>;

const tag = 'sandboxes';

/** A sandbox's life: create, look, pause, fork, delete. How it goes on is in `generations.ts`. */
export const sandboxRoutes = {
  createSandbox: {
    tag,
    access: byTeam('sandboxes'),
    method: 'POST',
    path: '/v1/sandboxes',
    summary: 'Create a sandbox',
    body: CreateSandbox,
    isBodyOptional: true,
    example: { request: { memory_mb: 512, timeout_sec: 300, metadata: { job: 'report-17' } }, reply: exampleSandbox },
    replies: { 202: Sandbox, 201: Sandbox },
    errors: [404, ...hostErrors],
    canWait: true,
  },
  listSandboxes: {
    tag,
    access: byTeam('sandboxes'),
    method: 'GET',
    path: '/v1/sandboxes',
    summary: 'List sandboxes, newest first',
    query: ListQuery,
    example: { reply: { items: [exampleSandbox], next_cursor: null } },
    replies: { 200: SandboxPage },
  },
  getSandbox: {
    ...ofSandbox,
    tag,
    method: 'GET',
    path: '/v1/sandboxes/{id}',
    summary: 'Get a sandbox',
    example: { reply: exampleSandbox },
    replies: { 200: Sandbox },
  },
  deleteSandbox: {
    ...sandboxCommand,
    tag,
    method: 'DELETE',
    path: '/v1/sandboxes/{id}',
    summary: 'Stop a sandbox for good',
    replies: { 202: Sandbox, 200: Sandbox },
  },
  pauseSandbox: {
    ...sandboxCommand,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/pause',
    summary: 'Save a sandbox and free its memory',
    body: Pause,
    isBodyOptional: true,
    example: { reply: examplePaused },
    replies: { 202: Sandbox, 200: Sandbox },
  },
  forkSandbox: {
    ...sandboxCommand,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/fork',
    summary: 'Start copies of a sandbox from its state',
    body: Fork,
    isBodyOptional: true,
    example: { request: { count: 1 }, reply: { items: [exampleSandbox] } },
    replies: { 202: SandboxItems, 201: SandboxItems },
  },
  listSandboxOperations: {
    ...ofSandbox,
    tag: 'operations',
    method: 'GET',
    path: '/v1/sandboxes/{id}/operations',
    summary: 'List what was done with a sandbox, newest first',
    query: OperationQuery,
    replies: { 200: OperationPage },
  },
} as const satisfies RouteTable;
