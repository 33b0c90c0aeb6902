import type { Command } from '../command.ts';
import { renderTable } from '../output.ts';
import { accountsOf } from './find-team.ts';

/** Commands about what one's account is linked with at sign-in providers. */
export const identityCommands: readonly Command[] = [
  {
    name: 'identity list',
    aliases: ['identity ls'],
    summary: 'List where you can sign in instead of by password',
    examples: ['aviary identity list'],
    async run(context) {
      const { output, signal } = context;
      const items = await accountsOf(context).identities({ signal });
      output.result({ items }, () =>
        renderTable(
          ['ID', 'PROVIDER', 'ISSUER', 'E-MAIL THERE', 'LAST USED'],
          items.map((one) => [one.id, one.provider ?? '-', one.issuer, one.email ?? '-', one.last_used_at]),
        ),
      );
    },
  },
  {
    name: 'identity unlink',
    aliases: ['identity rm'],
    summary: 'Unlink your account from one at a provider; the last way to sign in stays',
    args: [{ name: 'identity', summary: "an identity's id" }],
    examples: ['aviary identity unlink idn-0190c2d7-1111-7222-8333-444455556666'],
    async run(context, { args: [id = ''] }) {
      await accountsOf(context).unlinkIdentity(id, { signal: context.signal });
      context.output.result({ unlinked: id }, () => `${id} unlinked`);
    },
  },
];
