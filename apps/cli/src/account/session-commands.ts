import type { Command } from '../command.ts';
import { renderTable } from '../output.ts';
import { codeFlag } from './account-commands.ts';
import { accountsOf } from './find-team.ts';
import { Questions } from './read-secret.ts';

/** Commands about where one is logged in, and by what one logs in. */
export const sessionCommands: readonly Command[] = [
  {
    name: 'session list',
    aliases: ['session ls', 'sessions'],
    summary: 'List where you are logged in; this session is marked',
    examples: ['aviary session list'],
    async run(context) {
      const { output, signal } = context;
      const items = await accountsOf(context).sessions({ signal });
      output.result({ items }, () =>
        renderTable(
          ['', 'ID', 'BY', 'FROM', 'LAST SEEN', 'SINCE'],
          items.map((one) => [
            one.is_current ? '*' : '',
            one.id,
            one.user_agent,
            one.ip_address,
            one.last_seen_at,
            one.created_at,
          ]),
        ),
      );
    },
  },
  {
    name: 'session end',
    aliases: ['session rm'],
    summary: 'End sessions of yours, as of a machine that is lost',
    details: "'aviary logout --all' ends all of them.",
    args: [{ name: 'session', summary: "a session's id", isRepeated: true }],
    examples: ['aviary session end ses-0190c2d7-1111-7222-8333-444455556666'],
    async run(context, { args }) {
      for (const id of args) await accountsOf(context).endSession(id, { signal: context.signal });
      context.output.result({ ended: args }, () => args.map((id) => `${id} ended`).join('\n'));
    },
  },
  {
    name: 'password change',
    summary: 'Change your password, or set a first one; your other sessions end',
    details: 'The present password is asked for, or read from standard input, and after it the new one.',
    flags: {
      code: codeFlag,
    },
    examples: ['aviary password change'],
    async run(context, { flags }) {
      const { output, signal } = context;
      const accounts = accountsOf(context);
      const questions = new Questions(context);
      const me = await accounts.me({ signal });
      const currentPassword = me.has_password ? await questions.ask('Present password', { isSecret: true }) : undefined;
      const newPassword = await questions.askNewPassword();
      const code =
        flags.string('code') ??
        (me.second_factor ? await questions.ask('Code of your app, or a recovery code') : undefined);
      await accounts.changePassword(
        {
          newPassword,
          ...(currentPassword === undefined ? {} : { currentPassword }),
          ...(code === undefined ? {} : { code: code.trim() }),
        },
        { signal },
      );
      output.result({}, () => 'the password is changed; your other sessions have ended');
    },
  },
  {
    name: 'passkey list',
    aliases: ['passkey ls'],
    summary: 'List your passkeys, which browsers make',
    examples: ['aviary passkey list'],
    async run(context) {
      const items = await accountsOf(context).passkeys({ signal: context.signal });
      context.output.result({ items }, () =>
        renderTable(
          ['ID', 'NAME', 'SINCE', 'LAST USED'],
          items.map((one) => [one.id, one.name, one.created_at, one.last_used_at ?? 'never']),
        ),
      );
    },
  },
  {
    name: 'passkey remove',
    aliases: ['passkey rm'],
    summary: 'Remove a passkey; the last way to sign in stays',
    args: [{ name: 'passkey', summary: "a passkey's id" }],
    examples: ['aviary passkey remove psk-0190c2d7-1111-7222-8333-444455556666'],
    async run(context, { args: [id = ''] }) {
      await accountsOf(context).removePasskey(id, { signal: context.signal });
      context.output.result({ removed: id }, () => `${id} removed`);
    },
  },
];
