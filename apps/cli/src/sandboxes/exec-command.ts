import type { Command } from '../command.ts';
import { ExitWith, exitCodes, UsageError } from '../exit-codes.ts';
import { sandboxIdArg } from './find-sandbox.ts';
import {
  exitCodeOfOutcome,
  guestCommandFlags,
  guestCommandSummary,
  guestInput,
  readGuestCommand,
  streamToTerminal,
} from './guest-command.ts';

/** `aviary sandbox exec ID -- CMD`. */
export const execCommand: Command = {
  name: 'sandbox exec',
  aliases: ['exec'],
  summary: 'Run a command in a sandbox',
  details: [
    "Ends with the command's own exit code; 128 and its number after a signal, 124 when --timeout passed.",
    'Ctrl-C, and the end of this program, stop the command and everything it started, not the sandbox. With --detach it goes on.',
  ].join('\n'),
  args: [sandboxIdArg],
  rest: { summary: guestCommandSummary },
  flags: {
    ...guestCommandFlags,
    detach: { type: 'boolean', short: 'd', summary: 'print its process id once it runs, and let it go on by itself' },
    env: {
      type: 'string',
      short: 'e',
      isMultiple: true,
      placeholder: 'KEY=VALUE',
      summary: "the command's environment",
    },
  },
  examples: [
    "aviary sandbox exec sb-… -- 'ls -la /'",
    'echo hello | aviary sandbox exec sb-… -- cat',
    'aviary sandbox exec sb-… --user root -- apt-get update',
  ],
  async run(context, { args: [sandboxId = ''], flags, rest }) {
    const request = readGuestCommand(flags, rest);
    if (flags.boolean('detach')) {
      if (flags.boolean('stdin')) throw new UsageError('--detach and --stdin exclude each other');
      const { signal } = context;
      const started = await context.client().sandboxes.execDetached(sandboxId, request, { signal });
      context.output.result(started, () => String(started.pid));
      return;
    }
    const stdin = guestInput(context, flags);
    const outcome = await streamToTerminal(context, context.client(), { sandboxId, request, stdin });
    if (context.output.isJson) context.output.result(outcome, () => '');
    const exitCode = exitCodeOfOutcome(outcome);
    if (exitCode !== exitCodes.ok) throw new ExitWith(exitCode);
  },
};
