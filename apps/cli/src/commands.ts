import { accountCommands } from './account/account-commands.ts';
import { auditCommands } from './account/audit-commands.ts';
import { deleteAccountCommand } from './account/delete-account-command.ts';
import { identityCommands } from './account/identity-commands.ts';
import { keyCommands } from './account/key-commands.ts';
import { linkCommands } from './account/link-commands.ts';
import { memberCommands } from './account/member-commands.ts';
import { profileCommands } from './account/profile-commands.ts';
import { secondFactorCommands } from './account/second-factor-commands.ts';
import { sessionCommands } from './account/session-commands.ts';
import { teamCommands } from './account/team-commands.ts';
import { adminTeamCommands } from './admin/admin-team-commands.ts';
import { adminUserCommands } from './admin/admin-user-commands.ts';
import type { Command } from './command.ts';
import { completionCommand } from './completion/completion-command.ts';
import { commandWords } from './completion/expected-word.ts';
import { doctorCommand } from './doctor/doctor-command.ts';
import { fileCommands } from './files/file-commands.ts';
import { noCommand } from './find-command.ts';
import { renderHelp, renderOverview } from './help.ts';
import { downCommand } from './platform/down-command.ts';
import { logsCommand } from './platform/logs-command.ts';
import { upCommand } from './platform/up-command.ts';
import { execCommand } from './sandboxes/exec-command.ts';
import { runCommand } from './sandboxes/run-command.ts';
import { sandboxCommands } from './sandboxes/sandbox-commands.ts';
import { savedStateCommands } from './sandboxes/saved-state-commands.ts';
import { templateCommands } from './templates/template-commands.ts';
import { versionCommand } from './version-command.ts';

const helpCommand: Command = {
  name: 'help',
  summary: 'Show all commands, or one',
  args: [
    {
      name: 'words',
      summary: 'a command, or the words that it begins with',
      isOptional: true,
      isRepeated: true,
      values: async (_context, given) => commandWords(commands, given),
    },
  ],
  examples: ['aviary help', 'aviary help sandbox create'],
  async run({ output }, { args }) {
    const name = args.join(' ');
    const chosen = commands.filter(
      (command) => command.name === name || command.name.startsWith(`${name} `) || command.aliases?.includes(name),
    );
    if (name && chosen.length === 0) throw noCommand(commands, args);
    const shown = name ? chosen : commands;
    const only = shown.length === 1 ? shown[0] : undefined;
    output.result(
      shown.map(({ name, summary }) => ({ name, summary })),
      () => (only ? renderHelp(only) : renderOverview(shown)),
    );
  },
};

/** Every command of the program. */
export const commands: readonly Command[] = [
  upCommand,
  downCommand,
  logsCommand,
  doctorCommand,
  runCommand,
  ...sandboxCommands,
  execCommand,
  ...savedStateCommands,
  ...templateCommands,
  ...fileCommands,
  ...accountCommands,
  ...sessionCommands,
  ...linkCommands,
  ...secondFactorCommands,
  ...identityCommands,
  deleteAccountCommand,
  ...profileCommands,
  ...keyCommands,
  ...teamCommands,
  ...memberCommands,
  ...auditCommands,
  ...adminUserCommands,
  ...adminTeamCommands,
  completionCommand,
  helpCommand,
  versionCommand,
];
