import { readFile } from 'node:fs/promises';
import { AppError } from '@aviary/core';
import { AviaryClient, type Caller, type SecondFactorNeeded, type SignedIn } from '@aviary/sdk';
import { findApiUrl, userAgent } from '../api-client.ts';
import type { Command, CommandContext, Flag, Flags } from '../command.ts';
import { bootstrapFiles } from '../config.ts';
import { accountsOf } from './find-team.ts';
import {
  chooseProfile,
  lockProfiles,
  nextProfileAdvice,
  type Profile,
  profilesFile,
  putProfile,
  readProfiles,
  removeProfile,
  requireProfilesFile,
} from './profile-store.ts';
import { logInAtProvider } from './provider-login.ts';
import { Questions } from './read-secret.ts';
import { sessionCredential } from './session-token.ts';

export const emailFlag: Flag = {
  type: 'string',
  placeholder: 'EMAIL',
  summary: 'your e-mail address; asked for when absent',
};
export const urlFlag: Flag = {
  type: 'string',
  placeholder: 'URL',
  summary: "the API's URL; default: AVIARY_API_URL, the profile's, or this machine's platform",
};
export const codeFlag: Flag = {
  type: 'string',
  placeholder: 'CODE',
  summary: 'a code of your second factor, or a recovery code; asked for when absent and needed',
};
const defaultProfile = 'default';

/** Commands about who one is to a server. */
export const accountCommands: readonly Command[] = [
  {
    name: 'signup',
    summary: 'Make an account on a server, with a team of your own',
    details: 'Logs you in as well: kept as by `aviary login`.',
    flags: {
      email: emailFlag,
      url: urlFlag,
      name: { type: 'string', placeholder: 'NAME', summary: 'how to call you' },
    },
    examples: ['aviary signup --email ada@example.com --url https://aviary.example.com'],
    async run(context, { flags }) {
      const apiUrl = findServer(context, flags);
      const name = flags.string('name');
      const credentials = await askCredentials(new Questions(context), flags, { isNew: true });
      const request = { ...credentials, ...(name === undefined ? {} : { name }) };
      const { signal } = context;
      await showSignedIn(
        context,
        apiUrl,
        await new AviaryClient({ apiUrl, userAgent }).accounts.signUp(request, { signal }),
      );
    },
  },
  {
    name: 'login',
    summary: 'Log in to a server, by e-mail and password, in a browser or with an API key',
    details:
      'Kept in the profile that AVIARY_PROFILE names, or in `default`, for you alone. AVIARY_API_KEY comes before it. The password or key is asked for, or read from standard input, and after it the code of a second factor.',
    flags: {
      email: emailFlag,
      url: urlFlag,
      code: codeFlag,
      key: { type: 'boolean', summary: 'with an API key instead' },
      provider: {
        type: 'string',
        placeholder: 'ID',
        summary: 'in a browser on this machine, at one of the providers that the server names, such as github',
      },
    },
    examples: [
      'aviary login --email ada@example.com',
      'aviary login --provider github',
      'aviary login --key --url https://aviary.example.com < key-file',
    ],
    async run(context, { flags }) {
      const { output, signal } = context;
      const apiUrl = findServer(context, flags);
      const questions = new Questions(context);
      if (flags.boolean('key')) {
        const apiKey = (await questions.ask('API key', { isSecret: true })).trim();
        const caller = await new AviaryClient({ apiUrl, apiKey, userAgent }).apiKeys.caller({ signal });
        await keep(context, { apiUrl, credential: { type: 'api_key', apiKey } });
        output.result({ api_url: apiUrl, ...caller }, () => `logged in to ${apiUrl} with ${describeKey(caller)}`);
        return;
      }
      const { accounts } = new AviaryClient({ apiUrl, userAgent });
      const provider = flags.string('provider');
      const answer =
        provider === undefined
          ? await accounts.logIn(await askCredentials(questions, flags), { signal })
          : await logInAtProvider(accounts, provider, { output, signal });
      const signedIn = await showSecondFactor(context, { accounts, answer, questions, flags });
      await showSignedIn(context, apiUrl, signedIn);
    },
  },
  {
    name: 'logout',
    summary: 'End the session with a server and forget it',
    flags: { all: { type: 'boolean', summary: 'end all of your sessions there, on other machines too' } },
    examples: ['aviary logout', 'aviary logout --all'],
    async run(context, { flags }) {
      const file = requireProfilesFile(context.config.env);
      // Before the lock: it may have to renew the session first, which takes the lock.
      const isEverywhere = flags.boolean('all');
      if (isEverywhere) await accountsOf(context).logOutEverywhere({ signal: context.signal });
      // A session that is being renewed ends by what the renewal gave.
      using _lock = await lockProfiles(file, context.signal);
      const chosen = chooseProfile(readProfiles(file), context.config.profile);
      if (!chosen) throw new AppError('not_found', 'you are not logged in');
      const { name, profile } = chosen;
      const { apiUrl, credential } = profile;
      if (credential.type === 'session' && !isEverywhere) {
        const client = new AviaryClient({ apiUrl, userAgent });
        await client.accounts.logOut(credential.refreshToken, { signal: context.signal });
      }
      const advice = nextProfileAdvice(await removeProfile(file, name));
      context.output.result({ profile: name }, () => `logged out of ${apiUrl}${isEverywhere ? ' everywhere' : ''}`);
      if (advice !== undefined) context.output.note(advice);
    },
  },
  {
    name: 'whoami',
    summary: 'Show who you are to the server, and in which team',
    examples: ['aviary whoami'],
    async run({ client, output, signal }) {
      if (client().credential !== 'access_token') {
        const caller = await client().apiKeys.caller({ signal });
        output.result(caller, () => describeKey(caller));
        return;
      }
      const me = await client().accounts.me({ signal });
      output.result(
        me,
        () =>
          `${me.email} (${me.name})${inTeam(me.team) || " in no team; 'aviary team switch' goes on in one"}${me.is_admin ? ', administrator' : ''}`,
      );
    },
  },
  {
    name: 'admin claim',
    summary: 'Become the first administrator of a platform',
    details:
      "The code is printed by 'aviary up' and lies in bootstrap/claim-code of the platform's data directory; it is read from there by who may, and asked for otherwise.",
    flags: {
      email: emailFlag,
      url: urlFlag,
      code: codeFlag,
      name: { type: 'string', placeholder: 'NAME', summary: 'how to call you' },
    },
    examples: ['sudo aviary admin claim --email ada@example.com'],
    async run(context, { flags }) {
      const apiUrl = findServer(context, flags);
      const questions = new Questions(context);
      const kept = await readFile(bootstrapFiles(context.config.dataDir).claimCode, 'utf8').catch(() => '');
      const claimCode = kept.trim() || (await questions.ask('Claim code', { isSecret: true })).trim();
      const name = flags.string('name');
      const request = {
        ...(await askCredentials(questions, flags, { isNew: true })),
        code: claimCode,
        ...(name === undefined ? {} : { name }),
      };
      const { accounts } = new AviaryClient({ apiUrl, userAgent });
      const answer = await accounts.claim(request, { signal: context.signal });
      const signedIn = await showSecondFactor(context, { accounts, answer, questions, flags });
      await keep(context, { apiUrl, credential: sessionCredential(signedIn) });
      const { user, team } = signedIn;
      context.output.result({ api_url: apiUrl, user, team }, () => `${user.email} is administrator${inTeam(team)}`);
    },
  },
];

async function askCredentials(
  questions: Questions,
  flags: Flags,
  { isNew = false }: { isNew?: boolean } = {},
): Promise<{ email: string; password: string }> {
  const email = flags.string('email') ?? (await questions.ask('E-mail')).trim();
  const password = isNew
    ? await questions.askNewPassword('Password')
    : await questions.ask('Password', { isSecret: true });
  return { email, password };
}

async function showSignedIn(context: CommandContext, apiUrl: string, signedIn: SignedIn): Promise<void> {
  await keep(context, { apiUrl, credential: sessionCredential(signedIn) });
  const { user, team } = signedIn;
  const text = `logged in to ${apiUrl} as ${user.email}${inTeam(team)}`;
  context.output.result({ api_url: apiUrl, user, team }, () => text);
}

/** The session that the answer to a log-in is or leads to, by the code that is given or asked for. */
async function showSecondFactor(
  { signal }: CommandContext,
  {
    accounts,
    answer,
    questions,
    flags,
  }: {
    accounts: AviaryClient['accounts'];
    answer: SignedIn | SecondFactorNeeded;
    questions: Questions;
    flags: Flags;
  },
): Promise<SignedIn> {
  if (!('challenge' in answer)) return answer;
  const given = flags.string('code') ?? (await questions.ask('Code of your app, or a recovery code'));
  return await accounts.completeLogIn({ challenge: answer.challenge, code: given.trim() }, { signal });
}

async function keep(context: CommandContext, profile: Profile): Promise<void> {
  const file = requireProfilesFile(context.config.env);
  using _lock = await lockProfiles(file, context.signal);
  await putProfile(file, context.config.profile ?? defaultProfile, profile, { isCurrent: true });
  if (context.config.apiKey !== undefined) {
    context.output.note(
      'AVIARY_API_KEY is set, and comes before this log-in; unset it to work as who you logged in as',
    );
  }
}

/** Where to log in: as asked for, else where the profile that this replaces is, so that no password goes to another server by habit. */
export function findServer({ config }: CommandContext, flags: Flags): string {
  const asked = flags.string('url') ?? (config.isApiUrlSet ? config.apiUrl : undefined);
  if (asked !== undefined) return asked;
  const file = profilesFile(config.env);
  const { profiles } = file === undefined ? { profiles: {} } : readProfiles(file);
  const replaced = new Map<string, Profile>(Object.entries(profiles)).get(config.profile ?? defaultProfile);
  return replaced?.apiUrl ?? findApiUrl(config);
}

/** One who shows a key is that key. */
function describeKey({ api_key: key, team }: Caller): string {
  const scopes = key ? `the API key ${key.name} (${key.prefix}…, for ${key.scopes.join(' and ')})` : 'an API key';
  return `${scopes} of the team ${team.name}`;
}

function inTeam(team: { name: string; role: string } | null): string {
  return team ? ` in the team ${team.name} (${team.role})` : '';
}
