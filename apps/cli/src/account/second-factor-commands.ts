import type { OwnerProof } from '@aviary/sdk';
import type { Command, CommandContext, Flag, Flags } from '../command.ts';
import { accountsOf } from './find-team.ts';
import { Questions } from './read-secret.ts';

const code: Flag = {
  type: 'string',
  placeholder: 'CODE',
  summary: 'a code of the second factor, or a recovery code, instead of the password',
};
const proofWords = 'The password is asked for, or read from standard input.';

/** Commands about what one shows beside a password. */
export const secondFactorCommands: readonly Command[] = [
  {
    name: 'second-factor setup',
    summary: 'Make a secret for an app that shows one-time codes',
    details: `${proofWords} Log-ins ask for nothing more before \`aviary second-factor confirm\`.`,
    examples: ['aviary second-factor setup'],
    async run(context, { flags }) {
      const made = await accountsOf(context).beginTotp(await askProof(context, flags), { signal: context.signal });
      context.output.result(made, () => `${made.secret}\n${made.otpauth_uri}`);
      context.output.note(
        "type the secret into the app, or show the URI to it as a QR code; 'aviary second-factor confirm CODE' is next",
      );
    },
  },
  {
    name: 'second-factor confirm',
    summary: 'Show a first code of the app: log-ins ask for one from now on',
    args: [{ name: 'code', summary: 'the six digits that the app shows' }],
    examples: ['aviary second-factor confirm 123456'],
    async run(context, { args: [shown = ''] }) {
      showCodes(context, await accountsOf(context).confirmTotp(shown, { signal: context.signal }));
    },
  },
  {
    name: 'second-factor recovery-codes',
    summary: 'Make new recovery codes; those before are void',
    details: proofWords,
    flags: { code },
    examples: ['aviary second-factor recovery-codes'],
    async run(context, { flags }) {
      const proof = await askProof(context, flags);
      showCodes(context, await accountsOf(context).renewRecoveryCodes(proof, { signal: context.signal }));
    },
  },
  {
    name: 'second-factor disable',
    summary: 'Log in without codes again',
    details: proofWords,
    flags: { code },
    examples: ['aviary second-factor disable'],
    async run(context, { flags }) {
      await accountsOf(context).disableTotp(await askProof(context, flags), { signal: context.signal });
      context.output.result({ second_factor: null }, () => 'log-ins ask for no code any more');
    },
  },
];

/** What shows once more that it is the account's owner who asks: of an account without a password, a code, if it has a second factor. */
async function askProof(context: CommandContext, flags: Flags): Promise<OwnerProof> {
  const given = flags.string('code');
  if (given !== undefined) return { code: given.trim() };
  const questions = new Questions(context);
  const me = await accountsOf(context).me({ signal: context.signal });
  if (me.has_password) return { password: await questions.ask('Password', { isSecret: true }) };
  return me.second_factor ? { code: (await questions.ask('Code of your app, or a recovery code')).trim() } : {};
}

function showCodes({ output }: CommandContext, codes: readonly string[]): void {
  output.result({ recovery_codes: codes }, () => codes.join('\n'));
  output.note('each recovery code stands in for a code of the app once; they are not shown again');
}
