import { type Static, Type } from 'typebox';
import { byHost } from './access.ts';
import { component } from './component.ts';
import { text, timestamp } from './fields.ts';
import type { RouteTable } from './route.ts';

/** What a host reports about its sandboxes. */
export const sandboxEventNames = [
  'sandbox.started',
  'sandbox.resumed',
  'sandbox.paused',
  'sandbox.auto_paused',
  'sandbox.stopped',
  'sandbox.failed',
  'sandbox.error',
  'sandbox.pause_failed',
  'sandbox.resume_failed',
  'sandbox.reason_changed',
] as const;
export type SandboxEventName = (typeof sandboxEventNames)[number];

export const SandboxEvents = component(
  'SandboxEvents',
  Type.Object({
    events: Type.Array(
      Type.Object({
        id: Type.String({ minLength: 1, maxLength: 128, pattern: '^[^\\u0000]*$' }),
        event: Type.String({
          maxLength: 64,
          description: 'One of sandboxEventNames; others are taken and left aside.',
        }),
        sandbox_id: Type.String({ maxLength: 64 }),
        run: Type.Integer({
          minimum: 0,
          maximum: 2 ** 31 - 1,
          description: 'Which start of the sandbox it is about. One of an earlier run than is known changes nothing.',
        }),
        sequence: Type.Integer({
          minimum: 1,
          maximum: Number.MAX_SAFE_INTEGER,
          description:
            'Its place among the events of this host. One at or below what is known of the sandbox changes nothing.',
        }),
        reason: Type.Optional(text(4_096)),
        // By the host's clock: told, and compared with nothing.
        occurred_at: timestamp,
        start_path: Type.Optional(text(64)),
        generation_id: Type.Optional(Type.String({ maxLength: 64 })),
      }),
      { maxItems: 100 },
    ),
  }),
);
export type SandboxEvents = Static<typeof SandboxEvents>;

/** What host agents tell on their own. */
export const hostEventRoutes = {
  sandboxEvents: {
    isInternal: true,
    tag: 'hosts',
    access: byHost,
    method: 'POST',
    path: '/v1/hosts/sandbox-events',
    summary: 'Report what happened to sandboxes',
    body: SandboxEvents,
    replies: { 204: null },
    errors: [404],
  },
} as const satisfies RouteTable;
