import { type SandboxStatus, sandboxStatuses } from '@aviary/core';
import type { Sandbox } from '@aviary/sdk';
import { type Command, type CommandContext, type Flags, parsePairs } from '../command.ts';
import { ExitWith, exitCodes, UsageError } from '../exit-codes.ts';
import { checkNameIsFree, livingStatuses, sandboxIdArg } from './find-sandbox.ts';
import { renderSandbox, renderSandboxes } from './render-sandbox.ts';
import { createFlags, defaultWaitSec, readCreateFlags, waitFlags } from './sandbox-flags.ts';
import { showTime } from './show-time.ts';
import { createSettled, creating, destroyAll } from './wait-running.ts';

/** `waitSec` and the signal for a call that changes a sandbox's state. */
export function waitOptions(context: CommandContext, flags: Flags): { waitSec: number; signal: AbortSignal } {
  return { waitSec: flags.integer('wait') ?? defaultWaitSec, signal: context.signal };
}

/** Prints a sandbox; when it was waited for and is not `expected`, says so and ends with exit code 124 or 1. */
export function showSettled(
  { output }: CommandContext,
  sandbox: Sandbox,
  { expected, waitSec }: { expected: SandboxStatus; waitSec: number },
): void {
  output.result(sandbox, () => renderSandbox(sandbox));
  if (waitSec === 0 || sandbox.status === expected) return;
  const reason = sandbox.status_reason ? `: ${sandbox.status_reason}` : '';
  output.note(`aviary: it is ${sandbox.status}, not ${expected}${reason}`);
  throw new ExitWith(sandbox.status === 'error' ? exitCodes.failure : exitCodes.timeout);
}

export const sandboxCommands: readonly Command[] = [
  {
    name: 'sandbox create',
    aliases: ['create'],
    summary: 'Make a sandbox',
    flags: { ...createFlags, ...waitFlags },
    examples: ['aviary sandbox create', 'aviary sandbox create --vcpus 2 --memory 1024 --metadata job=42'],
    async run(context, { flags }) {
      const { waitSec, signal } = waitOptions(context, flags);
      const wanted = readCreateFlags(flags);
      const client = context.client();
      await checkNameIsFree(client, wanted, signal);
      const sandbox = await context.output.whileWaiting(creating, () =>
        waitSec === 0 ? client.sandboxes.create(wanted) : createSettled(client, wanted, { waitSec, signal }),
      );
      showSettled(context, sandbox, { expected: 'running', waitSec });
    },
  },
  {
    name: 'sandbox list',
    aliases: ['sandbox ls', 'ls', 'list', 'ps'],
    summary: 'List sandboxes',
    flags: {
      status: {
        type: 'string',
        isMultiple: true,
        placeholder: 'STATUS',
        summary: 'only these; may be repeated',
        values: sandboxStatuses,
      },
      all: { type: 'boolean', short: 'a', summary: 'stopped ones too' },
      limit: { type: 'integer', min: 1, summary: 'at most so many (default 1000)' },
    },
    examples: ['aviary sandbox list', 'aviary sandbox list --status running --json'],
    async run({ client, output, signal }, { flags }) {
      const limit = flags.integer('limit') ?? 1_000;
      const chosen = readStatuses(flags.strings('status'));
      const status = chosen.length > 0 ? chosen : flags.boolean('all') ? sandboxStatuses : livingStatuses;
      const found: Sandbox[] = [];
      for await (const sandbox of client().sandboxes.list({ status, pageSize: Math.min(limit, 100) }, { signal })) {
        found.push(sandbox);
        if (found.length >= limit) break;
      }
      output.result({ items: found }, () => renderSandboxes(found));
    },
  },
  {
    name: 'sandbox get',
    summary: 'Show a sandbox',
    args: [sandboxIdArg],
    examples: ['aviary sandbox get sb-… --json'],
    async run({ client, output, signal }, { args: [id = ''] }) {
      const sandbox = await client().sandboxes.get(id, { signal });
      output.result(sandbox, () => renderSandbox(sandbox));
    },
  },
  {
    name: 'sandbox rm',
    aliases: ['sandbox delete', 'rm'],
    summary: 'Destroy sandboxes, their disks and their saved states',
    args: [{ ...sandboxIdArg, isOptional: true, isRepeated: true }],
    flags: {
      all: { type: 'boolean', short: 'a', summary: 'every sandbox' },
      metadata: {
        type: 'string',
        isMultiple: true,
        placeholder: 'KEY=VALUE',
        summary: 'every sandbox with this label',
      },
      ...waitFlags,
    },
    examples: ['aviary sandbox rm sb-… sb-…', 'aviary sandbox rm --metadata job=42', 'aviary sandbox rm --all'],
    async run(context, { args, flags }) {
      const ids = await chooseSandboxes(context, args, flags);
      const options = waitOptions(context, flags);
      const gone = await destroyAll(context.client(), ids, options);
      context.output.result({ items: gone }, () =>
        gone.length === 0
          ? 'no sandboxes'
          : gone.map(({ id, status }) => `${id} ${status === 'stopped' ? 'destroyed' : status}`).join('\n'),
      );
    },
  },
  {
    name: 'sandbox pause',
    aliases: ['pause'],
    summary: 'Save memory and disk of a sandbox and stop its microVM',
    args: [sandboxIdArg],
    flags: {
      force: { type: 'boolean', summary: 'stop a guest that does not answer: its disk is kept, its memory is not' },
      ...waitFlags,
    },
    examples: ['aviary sandbox pause sb-…', 'aviary sandbox pause sb-… --force'],
    async run(context, { args: [id = ''], flags }) {
      const options = waitOptions(context, flags);
      const request = { ...options, ...(flags.boolean('force') ? { force: true } : {}) };
      const sandbox = await showTime(context, 'pause', () => context.client().sandboxes.pause(id, request));
      showSettled(context, sandbox, { expected: 'paused', waitSec: options.waitSec });
    },
  },
  {
    name: 'sandbox resume',
    aliases: ['resume'],
    summary: 'Let a paused sandbox go on',
    args: [sandboxIdArg],
    flags: {
      generation: { type: 'string', placeholder: 'GENERATION', summary: 'go on from this one, by id or name' },
      cold: { type: 'boolean', summary: 'boot from the saved disk, without the saved memory' },
      ...waitFlags,
    },
    examples: ['aviary sandbox resume sb-…', 'aviary sandbox resume sb-… --cold'],
    async run(context, { args: [id = ''], flags }) {
      const options = waitOptions(context, flags);
      const generation = flags.string('generation');
      const request = {
        ...options,
        ...(generation === undefined ? {} : { generation }),
        ...(flags.boolean('cold') ? { cold: true } : {}),
      };
      const sandbox = await showTime(context, 'resume', () => context.client().sandboxes.resume(id, request));
      showSettled(context, sandbox, { expected: 'running', waitSec: options.waitSec });
    },
  },
  {
    name: 'sandbox fork',
    aliases: ['fork'],
    summary: "Make sandboxes that go on from another one's memory and disk",
    args: [sandboxIdArg],
    flags: {
      count: { type: 'integer', min: 1, summary: 'how many (default 1)' },
      'idle-timeout': createFlags['idle-timeout'],
      ...waitFlags,
    },
    examples: ['aviary sandbox fork sb-… --count 3'],
    async run(context, { args: [id = ''], flags }) {
      const timeoutSec = flags.integer('idle-timeout');
      const request = {
        count: flags.integer('count') ?? 1,
        ...(timeoutSec === undefined ? {} : { timeout_sec: timeoutSec }),
      };
      const options = waitOptions(context, flags);
      const forks = await showTime(context, 'fork', () => context.client().sandboxes.fork(id, request, options));
      context.output.result({ items: forks }, () => renderSandboxes(forks));
    },
  },
];

/** The ids given, or those that the flags choose. Throws UsageError when neither says which. */
async function chooseSandboxes(
  { client, signal }: CommandContext,
  ids: readonly string[],
  flags: Flags,
): Promise<readonly string[]> {
  const labels = Object.entries(parsePairs('metadata', flags.strings('metadata')));
  const isChosen = flags.boolean('all') || labels.length > 0;
  if (ids.length > 0 === isChosen)
    throw new UsageError("'aviary sandbox rm' needs either ids, or --all, or --metadata KEY=VALUE");
  if (ids.length > 0) return ids;
  const all = await Array.fromAsync(client().sandboxes.list({ status: livingStatuses, pageSize: 200 }, { signal }));
  return all.filter(({ metadata }) => labels.every(([name, value]) => metadata[name] === value)).map(({ id }) => id);
}

function readStatuses(texts: readonly string[]): SandboxStatus[] {
  return texts
    .flatMap((text) => text.split(','))
    .map((text) => {
      const status = sandboxStatuses.find((known) => known === text);
      if (!status)
        throw new UsageError(`--status must be one of ${sandboxStatuses.join(', ')}, not ${JSON.stringify(text)}`);
      return status;
    });
}
