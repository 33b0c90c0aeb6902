import { errorText } from '@aviary/core';
import type { Command } from '../command.ts';
import { ExitWith, exitCodes } from '../exit-codes.ts';
import { checkNameIsFree } from './find-sandbox.ts';
import {
  exitCodeOfOutcome,
  guestCommandFlags,
  guestCommandSummary,
  guestInput,
  readGuestCommand,
  streamToTerminal,
} from './guest-command.ts';
import { createFlags, defaultWaitSec, readCreateFlags, waitFlags } from './sandbox-flags.ts';
import { createRunning, creating, destroy } from './wait-running.ts';

/** `aviary run -- CMD`: one command in a sandbox of its own. */
export const runCommand: Command = {
  name: 'run',
  summary: 'Run a command in a new sandbox, then destroy the sandbox',
  details: [
    "Ends with the command's own exit code; 128 and its number after a signal, 124 when --timeout passed, 130 after Ctrl-C.",
    'The sandbox is destroyed in every case, unless --keep is given.',
  ].join('\n'),
  rest: { summary: guestCommandSummary },
  flags: {
    ...createFlags,
    ...guestCommandFlags,
    ...waitFlags,
    keep: { type: 'boolean', summary: 'leave the sandbox running' },
  },
  examples: [
    "aviary run -- 'uname -a; free -m'",
    'aviary run -e GREETING=hello -- python3 -c \'import os; print(os.environ["GREETING"])\'',
    'aviary run --json --timeout 5 -- sleep 10',
  ],
  async run(context, { flags, rest }) {
    const waitSec = flags.integer('wait') || defaultWaitSec;
    const request = readGuestCommand(flags, rest);
    const wanted = readCreateFlags(flags);
    const stdin = guestInput(context, flags);
    const client = context.client();
    await checkNameIsFree(client, wanted, context.signal);
    const sandbox = await context.output.whileWaiting(creating, () =>
      createRunning(client, wanted, { waitSec, signal: context.signal }),
    );
    context.output.progress(context.output.paint('dim', `sandbox ${sandbox.id}`), true);
    let outcome: Awaited<ReturnType<typeof streamToTerminal>>;
    try {
      outcome = await streamToTerminal(context, client, { sandboxId: sandbox.id, request, stdin });
    } finally {
      if (flags.boolean('keep')) context.output.note(`kept: aviary sandbox rm ${sandbox.id}`);
      else {
        // Reported, not thrown: what became of the command is the news.
        await destroy(client, sandbox.id).catch((error: unknown) =>
          context.output.note(
            `aviary: cannot destroy ${sandbox.id}: ${errorText(error)}; try 'aviary sandbox rm ${sandbox.id}'`,
          ),
        );
      }
    }
    if (context.output.isJson) context.output.result(outcome, () => '');
    const exitCode = exitCodeOfOutcome(outcome);
    if (exitCode !== exitCodes.ok) throw new ExitWith(exitCode);
  },
};
