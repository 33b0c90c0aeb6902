import { generationCauses } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { byTeam } from './access.ts';
import { component } from './component.ts';
import { exampleGeneration, exampleSandbox } from './examples.ts';
import { closed, nullable, safeName, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';
import { hostErrors, ofSandbox, sandboxCommand } from './sandbox-route.ts';
import { Sandbox } from './sandboxes.ts';

export const Generation = component(
  'Generation',
  Type.Object({
    id: wireId('generation'),
    parent_id: nullable(wireId('generation')),
    name: nullable(Type.String()),
    pinned: Type.Boolean(),
    cause: Type.Enum([...generationCauses, 'other'], {
      description: 'Why it was saved; `other` from hosts of a newer version.',
    }),
    current: Type.Boolean(),
    has_memory: Type.Boolean(),
    memory_bytes: Type.Integer(),
    disk_bytes: Type.Integer(),
    created_at: timestamp,
  }),
);
export type Generation = Static<typeof Generation>;

export const GenerationItems = component('GenerationItems', Type.Object({ items: Type.Array(Generation) }));

export const UpdateGeneration = component(
  'UpdateGeneration',
  Type.Object(
    { name: Type.Optional(Type.Union([safeName, Type.Null()])), pinned: Type.Optional(Type.Boolean()) },
    { ...closed, minProperties: 1 },
  ),
);
export type UpdateGeneration = Static<typeof UpdateGeneration>;

export const Resume = component(
  'Resume',
  Type.Object(
    {
      generation: Type.Optional(
        Type.String({ minLength: 1, maxLength: 64, description: 'A generation id or name; the latest when absent.' }),
      ),
      cold: Type.Optional(
        Type.Boolean({ default: false, description: 'Boot from the saved disk and leave the memory aside.' }),
      ),
    },
    closed,
  ),
);
export type Resume = Static<typeof Resume>;

export const Rewind = component(
  'Rewind',
  Type.Object(
    { generation: Type.String({ minLength: 1, maxLength: 64, description: 'A generation id or name.' }) },
    closed,
  ),
);
export type Rewind = Static<typeof Rewind>;

export const GenerationParams = Type.Object({ id: wireId('sandbox'), generation: wireId('generation') });

const tag = 'generations';

/** The saved states of a sandbox: list, name, go on from one, go back to one. */
export const generationRoutes = {
  listGenerations: {
    ...ofSandbox,
    tag,
    method: 'GET',
    path: '/v1/sandboxes/{id}/generations',
    summary: 'List saved states',
    example: { reply: { items: [exampleGeneration] } },
    replies: { 200: GenerationItems },
  },
  updateGeneration: {
    tag,
    access: byTeam('sandboxes'),
    method: 'PATCH',
    path: '/v1/sandboxes/{id}/generations/{generation}',
    summary: 'Name or pin a saved state',
    params: GenerationParams,
    body: UpdateGeneration,
    example: { request: { name: 'clean', pinned: true }, reply: exampleGeneration },
    replies: { 200: Generation },
    errors: hostErrors,
  },
  resumeSandbox: {
    ...sandboxCommand,
    tag: 'sandboxes',
    method: 'POST',
    path: '/v1/sandboxes/{id}/resume',
    summary: 'Bring a paused sandbox back',
    body: Resume,
    isBodyOptional: true,
    example: { request: {}, reply: exampleSandbox },
    replies: { 202: Sandbox, 200: Sandbox },
  },
  rewindSandbox: {
    ...sandboxCommand,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/rewind',
    summary: 'Go back to a saved state',
    body: Rewind,
    example: { request: { generation: 'clean' }, reply: exampleSandbox },
    replies: { 202: Sandbox, 200: Sandbox },
  },
} as const satisfies RouteTable;
