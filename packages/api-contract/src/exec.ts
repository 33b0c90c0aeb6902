import { execLimits } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { component } from './component.ts';
import { exampleSandbox } from './examples.ts';
import { closed, envs, path, range, text, user, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';
import { guestCall } from './sandbox-route.ts';

const command = {
  cmd: text(execLimits.maxCommandBytes, 1),
  args: Type.Optional(Type.Array(text(execLimits.maxCommandBytes), { maxItems: execLimits.maxArgs })),
  envs: Type.Optional(envs),
  cwd: Type.Optional(path),
  user,
  timeout_sec: Type.Optional(
    range(
      execLimits.timeoutSec,
      `Seconds until the command is killed; 0 is never, ${execLimits.timeoutSec.default} the default.`,
    ),
  ),
};

export const Exec = component(
  'Exec',
  Type.Object({ ...command, stdin: Type.Optional(Type.String({ maxLength: execLimits.maxStdinBytes })) }, closed),
);
export type Exec = Static<typeof Exec>;

export const ExecResult = component(
  'ExecResult',
  Type.Object({
    sandbox_id: wireId('sandbox'),
    cmd: Type.String(),
    stdout: Type.String(),
    stderr: Type.String(),
    exit_code: Type.Integer(),
    duration_ms: Type.Integer(),
    encoding: Type.Enum(['utf-8', 'base64']),
    truncated: Type.Boolean(),
  }),
);
export type ExecResult = Static<typeof ExecResult>;

/** The first frame that a client sends on the exec stream. */
export const ExecStart = component(
  'ExecStart',
  Type.Object({ type: Type.Literal('start'), ...command }, { ...closed, description: 'Comes first, once.' }),
);
export type ExecStart = Static<typeof ExecStart>;

const ExecStop = component(
  'ExecStop',
  Type.Object({ type: Type.Literal('stop') }, { ...closed, description: 'Ends the command.' }),
);
export const ExecClientFrame = component('ExecClientFrame', Type.Union([ExecStart, ExecStop]));
export type ExecClientFrame = Static<typeof ExecClientFrame>;

const ExecStarted = component('ExecStarted', Type.Object({ type: Type.Literal('start'), pid: Type.Integer() }));
const ExecOutput = component(
  'ExecOutput',
  Type.Object({
    type: Type.Enum(['stdout', 'stderr']),
    data: Type.String({ contentEncoding: 'base64', description: 'The bytes as they came, in base64.' }),
  }),
);
const ExecExit = component(
  'ExecExit',
  Type.Object(
    { type: Type.Literal('exit'), exit_code: Type.Integer(), error: Type.Optional(Type.String()) },
    { description: 'The command has ended; the server closes.' },
  ),
);
const ExecFailure = component(
  'ExecFailure',
  Type.Object(
    {
      type: Type.Literal('error'),
      code: Type.String(),
      message: Type.String(),
      details: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    },
    { description: 'The command could not be run or followed to its end; the server closes.' },
  ),
);
export const ExecServerFrame = component(
  'ExecServerFrame',
  Type.Union([ExecStarted, ExecOutput, ExecExit, ExecFailure]),
);
export type ExecServerFrame = Static<typeof ExecServerFrame>;

const tag = 'data';

/** Running commands in a sandbox. */
export const execRoutes = {
  exec: {
    ...guestCall,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/exec',
    summary: 'Run a command to its end',
    body: Exec,
    example: {
      request: { cmd: 'python3 -c "print(6 * 7)"', timeout_sec: 60 },
      reply: {
        sandbox_id: exampleSandbox.id,
        cmd: 'python3 -c "print(6 * 7)"',
        stdout: '42\n',
        stderr: '',
        exit_code: 0,
        duration_ms: 31,
        encoding: 'utf-8',
        truncated: false,
      },
    },
    replies: { 200: ExecResult },
  },
} as const satisfies RouteTable;

/** The same over a WebSocket, with the output as it comes. */
export const execStreamRoutes = {
  execStream: {
    ...guestCall,
    tag,
    method: 'GET',
    path: '/v1/sandboxes/{id}/exec/stream',
    summary: 'Run a command over a WebSocket',
    description: `Without timeout_sec a command may take ${execLimits.timeoutSec.default} seconds.`,
    frames: { client: ExecClientFrame, server: ExecServerFrame },
    replies: { 101: null },
  },
} as const satisfies RouteTable;
