import { wireIdSource } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { byTeam } from './access.ts';
import { component } from './component.ts';
import { cursor, limit, nullable, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';

export const Operation = component(
  'Operation',
  Type.Object({
    id: wireId('operation'),
    kind: Type.String({ description: 'What is done: create, pause, fork, … An extension may have kinds of its own.' }),
    subject: Type.Object({
      type: Type.Enum(['sandbox', 'template', 'host']),
      id: Type.String(),
    }),
    sandbox_id: Type.Union([wireId('sandbox'), Type.Null()], {
      description: 'The sandbox that it works on, if any: the source of a snapshot.',
    }),
    state: Type.Enum(['running', 'succeeded', 'failed', 'superseded'], {
      description: '`superseded`: another command came between, and its outcome stands.',
    }),
    error: Type.Union([
      Type.Object({
        code: Type.String(),
        message: Type.String(),
        details: Type.Record(Type.String(), Type.Unknown()),
      }),
      Type.Null(),
    ]),
    phases: Type.Array(Type.Object({ name: Type.String(), ms: Type.Number() }), {
      description: 'How long the steps took, in milliseconds; those of the host are named host.…',
    }),
    request_id: nullable(Type.String()),
    attempts: Type.Integer({ description: 'How many times it was begun; more than one when a control plane died.' }),
    created_at: timestamp,
    finished_at: nullable(timestamp),
  }),
);
export type Operation = Static<typeof Operation>;

export const OperationPage = component(
  'OperationPage',
  Type.Object({ items: Type.Array(Operation), next_cursor: nullable(Type.String()) }),
);

export const OperationParams = Type.Object({ id: wireId('operation') });
export const OperationQuery = Type.Object({ limit, cursor: cursor(wireIdSource('operation')) });

const tag = 'operations';

/** Accepted commands: how far they are, and what came of them. */
export const operationRoutes = {
  getOperation: {
    tag,
    access: byTeam('any'),
    method: 'GET',
    path: '/v1/operations/{id}',
    summary: 'Get an operation',
    description:
      'Every command answers the id of its operation in the header Operation-Id. Kept for a week after the end.',
    params: OperationParams,
    replies: { 200: Operation },
  },
} as const satisfies RouteTable;
