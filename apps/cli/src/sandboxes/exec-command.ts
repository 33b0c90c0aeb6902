import type { Command } from '../command.ts';
import { ExitWith, exitCodes } from '../exit-codes.ts';
import { sandboxIdArg } from './find-sandbox.ts';
import { guestCommandFlags, guestCommandSummary, readGuestCommand, streamToTerminal } from './guest-command.ts';

/** `aviary sandbox exec ID -- CMD`. */
export const execCommand: Command = {
  name: 'sandbox exec',
  summary: 'Run a command in a sandbox',
  details:
    "Ends with the command's own exit code; 124 when --timeout passed. Ctrl-C stops the command, not the sandbox.",
  args: [sandboxIdArg],
  rest: { summary: guestCommandSummary },
  flags: {
    ...guestCommandFlags,
    env: {
      type: 'string',
      short: 'e',
      isMultiple: true,
      placeholder: 'KEY=VALUE',
      summary: "the command's environment",
    },
  },
  examples: ["aviary sandbox exec sb-… -- 'ls -la /'", 'aviary sandbox exec sb-… --user root -- apt-get update'],
  async run(context, { args: [sandboxId = ''], flags, rest }) {
    const request = readGuestCommand(flags, rest);
    const outcome = await streamToTerminal(context, context.client(), { sandboxId, request });
    if (context.output.isJson) context.output.result(outcome, () => '');
    if (outcome.exit_code !== exitCodes.ok) throw new ExitWith(outcome.exit_code);
  },
};
