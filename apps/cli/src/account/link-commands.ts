import { AviaryClient } from '@aviary/sdk';
import { userAgent } from '../api-client.ts';
import type { Command } from '../command.ts';
import { emailFlag, findServer, urlFlag } from './account-commands.ts';
import { requirePerson } from './find-team.ts';
import { Questions } from './read-secret.ts';

const linkWords = 'The link is asked for, or read from standard input; what follows its "#" is enough.';

/** Commands for the links that come by mail: whoever reads the address sets a password, or shows that it is theirs. */
export const linkCommands: readonly Command[] = [
  {
    name: 'password reset',
    summary: 'Ask for a link by which you set a new password',
    details: 'It comes by mail; of a server that sends none, who runs it gives it to you.',
    flags: { email: emailFlag, url: urlFlag },
    examples: ['aviary password reset --email ada@example.com'],
    async run(context, { flags }) {
      const { output, signal } = context;
      const apiUrl = findServer(context, flags);
      const email = flags.string('email') ?? (await new Questions(context).ask('E-mail')).trim();
      await new AviaryClient({ apiUrl, userAgent }).accounts.requestPasswordReset(email, { signal });
      output.result(
        { email },
        () => `if ${email} has an account, a link is on its way; 'aviary password set' takes it`,
      );
    },
  },
  {
    name: 'password set',
    summary: 'Set a new password by a link; all of your sessions end',
    details: `${linkWords} The password comes after it.`,
    flags: { url: urlFlag },
    examples: ['aviary password set'],
    async run(context, { flags }) {
      const { output, signal } = context;
      const apiUrl = findServer(context, flags);
      const questions = new Questions(context);
      const token = tokenOf(await questions.ask('Link', { isSecret: true }));
      const password = await questions.askNewPassword();
      await new AviaryClient({ apiUrl, userAgent }).accounts.confirmPasswordReset({ token, password }, { signal });
      output.result({}, () => "the password is set; 'aviary login' logs in with it");
    },
  },
  {
    name: 'email send',
    summary: 'Ask for another link that verifies your address',
    examples: ['aviary email send'],
    async run(context) {
      requirePerson(context);
      await context.client().accounts.requestVerification({ signal: context.signal });
      context.output.result(
        {},
        () => "a link is on its way, unless the address is verified; 'aviary email verify' takes it",
      );
    },
  },
  {
    name: 'email verify',
    summary: 'Verify your address by its link',
    details: linkWords,
    flags: { url: urlFlag },
    examples: ['aviary email verify'],
    async run(context, { flags }) {
      const { output, signal } = context;
      const apiUrl = findServer(context, flags);
      const token = tokenOf(await new Questions(context).ask('Link', { isSecret: true }));
      await new AviaryClient({ apiUrl, userAgent }).accounts.verifyEmail(token, { signal });
      output.result({}, () => 'the address is verified');
    },
  },
];

/** The token of a link, or what was given when it is none. */
export function tokenOf(text: string): string {
  return text.slice(text.indexOf('#') + 1).trim();
}
