import type { OwnerProof } from '@aviary/sdk';
import type { Command, CommandContext } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { requirePerson } from './find-team.ts';
import { chooseProfile, lockProfiles, readProfiles, removeProfile, requireProfilesFile } from './profile-store.ts';
import { Questions } from './read-secret.ts';

/** The command that ends one's own account. */
export const deleteAccountCommand: Command = {
  name: 'account delete',
  summary: 'Delete your account, with the teams that have nobody else',
  details:
    'A team of yours that has others is handed over first, or deleted. For 15 days an administrator of the platform can restore the account; its teams, keys and sessions are gone. Your password is asked for, or a code of your second factor.',
  args: [{ name: 'email', summary: 'your e-mail address, to be sure' }],
  examples: ['aviary account delete ada@example.com'],
  async run(context, { args: [email = ''] }) {
    const { client, output, signal } = context;
    requirePerson(context);
    const me = await client().accounts.me({ signal });
    if (me.email.toLowerCase() !== email.trim().toLowerCase()) {
      throw new UsageError(`you are logged in as ${me.email}; name that address to delete its account`);
    }
    const proof = await askProof(context, me);
    await client().accounts.deleteMe(proof, { signal });
    await forgetProfile(context);
    output.result({ deleted: me.email }, () => `the account ${me.email} is deleted`);
    output.note('for 15 days an administrator of the platform can restore it');
  },
};

async function askProof(
  context: CommandContext,
  { has_password, second_factor }: { has_password: boolean; second_factor: unknown },
): Promise<OwnerProof> {
  const questions = new Questions(context);
  if (has_password) return { password: await questions.ask('Password', { isSecret: true }) };
  return second_factor === null ? {} : { code: (await questions.ask('Code', { isSecret: true })).trim() };
}

/** The session is over: nothing can be done with what is kept of it. */
async function forgetProfile({ config, signal }: CommandContext): Promise<void> {
  const file = requireProfilesFile(config.env);
  using _lock = await lockProfiles(file, signal);
  const chosen = chooseProfile(readProfiles(file), config.profile);
  if (chosen) await removeProfile(file, chosen.name);
}
