import { execLimits, execSignals } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { component } from './component.ts';
import { closed, envs, path, text, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';
import { guestCall } from './sandbox-route.ts';

const base64Length = (bytes: number) => Math.ceil(bytes / 3) * 4;

const limitText = 'At its limit the command and everything it started is killed.';

const command = {
  cmd: Type.String({
    minLength: 1,
    maxLength: execLimits.maxCommandBytes,
    pattern: '^[^\\u0000]*$',
    description: 'A line for /bin/sh when `args` is absent, else the program.',
  }),
  args: Type.Optional(Type.Array(text(execLimits.maxCommandBytes), { maxItems: execLimits.maxArgs })),
  envs: Type.Optional(envs),
  cwd: Type.Optional(path),
  user: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 64,
      pattern: '^[^\\u0000]*$',
      description: 'A name, a user id, or either with `:` and a group. Default: the user of the sandbox.',
    }),
  ),
};

export const Exec = component(
  'Exec',
  Type.Object(
    {
      ...command,
      timeout_sec: Type.Optional(
        Type.Integer({
          minimum: execLimits.timeoutSec.min,
          maximum: execLimits.timeoutSec.max,
          description: `${limitText} 0 is none. Default ${execLimits.timeoutSec.default}, and none when detached.`,
        }),
      ),
      stdin: Type.Optional(
        Type.String({
          maxLength: base64Length(execLimits.maxStdinBytes),
          description: `All of standard input, at most ${execLimits.maxStdinBytes} bytes.`,
        }),
      ),
      stdin_encoding: Type.Optional(Type.Enum(['utf-8', 'base64'], { default: 'utf-8' })),
      detach: Type.Optional(
        Type.Boolean({ default: false, description: 'Answer once it has started; it goes on without its client.' }),
      ),
    },
    closed,
  ),
);
export type Exec = Static<typeof Exec>;

/** How a command ended. */
const ending = {
  exit_code: Type.Integer({
    description:
      '128 and its number when a signal ended the command; 127 when there is no such program, 126 when it cannot be executed.',
  }),
  signal: Type.Union([Type.String(), Type.Null()], { description: 'The signal that ended it, e.g. `SIGKILL`.' }),
  timed_out: Type.Boolean({ description: 'It ran into `timeout_sec` and was killed; what it wrote before is there.' }),
};

export const ExecResult = component(
  'ExecResult',
  Type.Object({
    sandbox_id: wireId('sandbox'),
    cmd: Type.String(),
    stdout: Type.String({ description: `At most ${execLimits.maxOutputBytes} bytes; the rest is dropped.` }),
    stderr: Type.String({ description: 'Bounded in the same way.' }),
    ...ending,
    duration_ms: Type.Integer(),
    encoding: Type.Enum(['utf-8', 'base64'], { description: 'Of both outputs: base64 when either is not UTF-8.' }),
    truncated: Type.Boolean({ description: 'Output was dropped.' }),
    dropped_stdout_bytes: Type.Integer(),
    dropped_stderr_bytes: Type.Integer(),
  }),
);
export type ExecResult = Static<typeof ExecResult>;

export const ExecDetached = component(
  'ExecDetached',
  Type.Object(
    { sandbox_id: wireId('sandbox'), cmd: Type.String(), pid: Type.Integer() },
    { description: 'The command has started and goes on.' },
  ),
);
export type ExecDetached = Static<typeof ExecDetached>;

/** The first frame that a client sends on the exec stream. */
export const ExecStart = component(
  'ExecStart',
  Type.Object(
    {
      type: Type.Literal('start'),
      ...command,
      timeout_sec: Type.Optional(
        Type.Integer({
          minimum: execLimits.timeoutSec.min,
          maximum: execLimits.timeoutSec.max,
          description: `${limitText} Default 0, which is none.`,
        }),
      ),
      stdin: Type.Optional(
        Type.Boolean({ default: false, description: 'Standard input comes in `stdin` frames; else it is at its end.' }),
      ),
      detach: Type.Optional(
        Type.Boolean({ default: false, description: 'The command goes on when the client leaves.' }),
      ),
      output_window: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: execLimits.maxOutputWindow,
          description:
            'Frames of output that may be on their way at once: more come when `output` says that these were taken. For clients whose WebSocket cannot be read slowly; without it all come as fast as the connection takes them.',
        }),
      ),
    },
    { ...closed, description: 'Comes first, once.' },
  ),
);
export type ExecStart = Static<typeof ExecStart>;

const ExecStdin = component(
  'ExecStdin',
  Type.Object(
    {
      type: Type.Literal('stdin'),
      data: Type.Optional(
        Type.String({
          maxLength: base64Length(execLimits.maxStdinFrameBytes),
          pattern: '^[A-Za-z0-9+/]*={0,2}$',
          description: 'Bytes in base64.',
        }),
      ),
      text: Type.Optional(
        Type.String({ maxLength: execLimits.maxStdinFrameBytes, description: 'Text, instead of `data`.' }),
      ),
      eof: Type.Optional(Type.Boolean({ default: false, description: 'Standard input ends after this.' })),
    },
    {
      ...closed,
      description: `Standard input; answered by \`stdin\` when the command has taken it. At most ${execLimits.maxStdinBytes} bytes may be unanswered.`,
    },
  ),
);
const ExecSignalFrame = component(
  'ExecSignal',
  Type.Object(
    { type: Type.Literal('signal'), signal: Type.Enum([...execSignals]) },
    { ...closed, description: 'Signals the command and everything it started.' },
  ),
);
const ExecStop = component(
  'ExecStop',
  Type.Object(
    { type: Type.Literal('stop') },
    { ...closed, description: 'Kills the command and everything it started, detached or not; its `exit` follows.' },
  ),
);
const ExecOutputTaken = component(
  'ExecOutputTaken',
  Type.Object(
    {
      type: Type.Literal('output'),
      taken_frames: Type.Integer({ minimum: 0, description: 'Of all `stdout` and `stderr` frames until now.' }),
    },
    { ...closed, description: 'The client has taken output, and there is room for more in its `output_window`.' },
  ),
);
const ExecPing = component(
  'ExecPing',
  Type.Object(
    { type: Type.Literal('ping') },
    {
      ...closed,
      description:
        'Asks for a `pong`: for clients whose WebSocket has no pings, to find out that the other side is lost.',
    },
  ),
);
export const ExecClientFrame = component(
  'ExecClientFrame',
  Type.Union([ExecStart, ExecStdin, ExecSignalFrame, ExecStop, ExecOutputTaken, ExecPing]),
);
export type ExecClientFrame = Static<typeof ExecClientFrame>;

const ExecStarted = component('ExecStarted', Type.Object({ type: Type.Literal('start'), pid: Type.Integer() }));
const ExecOutput = component(
  'ExecOutput',
  Type.Object({
    type: Type.Enum(['stdout', 'stderr']),
    data: Type.String({ contentEncoding: 'base64', description: 'The bytes as they came, in base64.' }),
  }),
);
const ExecStdinTaken = component(
  'ExecStdinTaken',
  Type.Object(
    {
      type: Type.Literal('stdin'),
      taken_bytes: Type.Integer({ description: 'Of all frames until now.' }),
      open: Type.Boolean({ description: 'False once the command takes no more.' }),
    },
    { description: 'A `stdin` frame was taken by the command.' },
  ),
);
const ExecExit = component(
  'ExecExit',
  Type.Object(
    {
      type: Type.Literal('exit'),
      ...ending,
      stopped: Type.Boolean({ description: 'It was killed because the client sent `stop`.' }),
    },
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
      fatal: Type.Boolean({
        description:
          'True: the command could not be run or followed to its end, and the server closes. False: a frame was refused, and the command goes on.',
      }),
    },
    { description: 'Something went wrong.' },
  ),
);
const ExecPong = component('ExecPong', Type.Object({ type: Type.Literal('pong') }));
export const ExecServerFrame = component(
  'ExecServerFrame',
  Type.Union([ExecStarted, ExecOutput, ExecStdinTaken, ExecExit, ExecFailure, ExecPong]),
);
export type ExecServerFrame = Static<typeof ExecServerFrame>;

const tag = 'data';

/** Of those of every call into a guest: a working directory that its user may not enter, and no room for another process. */
const errors = [...guestCall.errors, 403, 429] as const;

/** Running commands in a sandbox. */
export const execRoutes = {
  exec: {
    ...guestCall,
    errors,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/exec',
    summary: 'Run a command to its end',
    description: [
      'A client that leaves before the answer stops the command and everything it started.',
      'What goes on without its client is asked for: with `detach` (answered 202), or with an Idempotency-Key, whose repeat gets the answer.',
      'Pausing or deleting its sandbox stops it too; a detached one goes on after a resume.',
    ].join(' '),
    body: Exec,
    example: { request: { cmd: 'python3 -c "print(6 * 7)"', timeout_sec: 60 } },
    replies: { 200: ExecResult, 202: ExecDetached },
  },
} as const satisfies RouteTable;

/** The same over a WebSocket, with the output as it comes. */
export const execStreamRoutes = {
  execStream: {
    ...guestCall,
    errors,
    tag,
    method: 'GET',
    path: '/v1/sandboxes/{id}/exec/stream',
    summary: 'Run a command over a WebSocket',
    description: [
      'A client that closes the socket, or is lost, stops the command and everything it started, unless it was started with `detach`.',
      'A frame that is unknown or malformed is answered by an `error` that is not fatal; before `start` the socket closes with 1008.',
    ].join(' '),
    frames: { client: ExecClientFrame, server: ExecServerFrame },
    replies: { 101: null },
  },
} as const satisfies RouteTable;
