import { AppError } from '@aviary/core';
import type { AdminUser, AviaryClient } from '@aviary/sdk';
import { requirePerson } from '../account/find-team.ts';
import type { Argument, Command, CommandContext, Flag } from '../command.ts';
import { renderFields, renderTable } from '../output.ts';

const userArg: Argument = { name: 'user', summary: "a person's e-mail address or id" };

/** The flag by which lists of the whole platform are narrowed. */
export const searchFlag: Flag = { type: 'string', placeholder: 'TEXT', summary: 'a part of an address, name or slug' };

type Act = (admin: AviaryClient['admin'], userId: string, signal: AbortSignal) => Promise<void>;

/** Commands about all people of the platform, for its administrators. */
export const adminUserCommands: readonly Command[] = [
  {
    name: 'admin user list',
    aliases: ['admin users', 'admin user ls'],
    summary: 'List people, newest first',
    flags: { search: searchFlag },
    examples: ['aviary admin users', 'aviary admin users --search example.com'],
    async run(context, { flags }) {
      const { client, output, signal } = context;
      requirePerson(context);
      const search = flags.string('search');
      const items = await Array.fromAsync(
        client().admin.users({ signal, ...(search === undefined ? {} : { search }) }),
      );
      output.result({ items }, () =>
        renderTable(
          ['EMAIL', 'VERIFIED', 'NAME', 'STATUS', 'ADMIN', 'TEAMS', 'OWNED', 'SINCE', 'ID'],
          items.map((user) => [
            user.email,
            user.email_verified ? 'yes' : '-',
            user.name,
            user.status,
            user.is_admin ? 'yes' : '-',
            String(user.teams_joined),
            String(user.teams_owned),
            user.created_at,
            user.id,
          ]),
        ),
      );
    },
  },
  {
    name: 'admin user show',
    summary: 'Show a person',
    args: [userArg],
    examples: ['aviary admin user show grace@example.com'],
    async run(context, { args: [text = ''] }) {
      const user = await findUser(context, text);
      context.output.result(user, () => renderFields(user));
    },
  },
  {
    name: 'admin user link',
    summary: 'Make a link by which a person sets a new password, or verifies their address',
    details: 'Hand it to them: it is good once, and is shown once. A second factor is asked for nevertheless.',
    args: [userArg],
    flags: { verify: { type: 'boolean', summary: 'for their address instead of their password' } },
    examples: ['aviary admin user link grace@example.com', 'aviary admin user link grace@example.com --verify'],
    async run(context, { args: [text = ''], flags }) {
      const { client, output, signal } = context;
      const user = await findUser(context, text);
      const purpose = flags.boolean('verify') ? 'email_verification' : 'password_reset';
      const link = await client().admin.createLink(user.id, purpose, { signal });
      output.result({ user_id: user.id, email: user.email, ...link }, () => link.url);
      output.note(`for ${user.email}, until ${link.expires_at}`);
    },
  },
  {
    name: 'admin mails',
    summary: 'List mails that were not sent, or not yet, newest first',
    details: "Of a server that sends no mail: whose links are in its log. 'aviary admin user link' makes another one.",
    examples: ['aviary admin mails'],
    async run(context) {
      const { client, output, signal } = context;
      requirePerson(context);
      const items = await Array.fromAsync(client().admin.mails({ signal }));
      output.result({ items }, () =>
        renderTable(
          ['EMAIL', 'KIND', 'STATE', 'ATTEMPTS', 'SINCE', 'ERROR'],
          items.map((mail) => [
            mail.email,
            mail.kind,
            mail.state,
            String(mail.attempts),
            mail.created_at,
            mail.last_error ?? '-',
          ]),
        ),
      );
    },
  },
  userCommand('deactivate', {
    summary: 'Deactivate a person: their sessions end, their keys are revoked',
    done: 'is deactivated',
    act: (admin, userId, signal) => admin.setUserActive(userId, false, { signal }),
  }),
  userCommand('activate', {
    summary: 'Let a deactivated person in again',
    done: 'is active',
    act: (admin, userId, signal) => admin.setUserActive(userId, true, { signal }),
  }),
  userCommand('delete', {
    summary: 'Delete an account, with the teams that have nobody else',
    done: "is deleted; 'aviary admin user restore' undoes it for 15 days",
    act: (admin, userId, signal) => admin.deleteUser(userId, { signal }),
  }),
  userCommand('restore', {
    summary: 'Restore a deleted account; its teams, keys and sessions stay gone',
    done: 'is active, in a new team',
    act: (admin, userId, signal) => admin.restoreUser(userId, { signal }),
    isForDeleted: true,
  }),
  userCommand('promote', {
    summary: 'Make a person an administrator of the platform',
    done: 'is an administrator',
    act: (admin, userId, signal) => admin.setUserAdmin(userId, true, { signal }),
  }),
  userCommand('demote', {
    summary: 'Make a person an administrator no longer',
    done: 'is no administrator',
    act: (admin, userId, signal) => admin.setUserAdmin(userId, false, { signal }),
  }),
  userCommand('remove-second-factor', {
    summary: 'Take the second factor away from a person who has lost it',
    done: 'has no second factor',
    act: (admin, userId, signal) => admin.removeSecondFactor(userId, { signal }),
  }),
];

function userCommand(
  verb: string,
  { summary, done, act, isForDeleted = false }: { summary: string; done: string; act: Act; isForDeleted?: boolean },
): Command {
  return {
    name: `admin user ${verb}`,
    summary,
    args: [userArg],
    examples: [`aviary admin user ${verb} grace@example.com`],
    async run(context, { args: [text = ''] }) {
      const user = await findUser(context, text, { isDeleted: isForDeleted });
      await act(context.client().admin, user.id, context.signal);
      context.output.result({ user_id: user.id, email: user.email }, () => `${user.email} ${done}`);
    },
  };
}

/** The person that `text` means, by id or address; of several with one address the one that is not deleted, or is. Throws `not_found`. */
async function findUser(
  context: CommandContext,
  text: string,
  { isDeleted = false }: { isDeleted?: boolean } = {},
): Promise<AdminUser> {
  const { client, signal } = context;
  requirePerson(context);
  if (text.startsWith('usr-')) return await client().admin.user(text, { signal });
  const wanted = text.normalize('NFKC').toLowerCase();
  const found: AdminUser[] = [];
  for await (const user of client().admin.users({ signal, search: wanted })) {
    if (user.email.normalize('NFKC').toLowerCase() === wanted) found.push(user);
  }
  const user = found.find(({ status }) => (status === 'deleted') === isDeleted) ?? found[0];
  if (!user) throw new AppError('not_found', `there is no person ${text}; 'aviary admin users' lists all`);
  return user;
}
