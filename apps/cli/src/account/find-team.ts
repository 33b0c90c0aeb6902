import { AppError } from '@aviary/core';
import type { AviaryClient, Member, Team } from '@aviary/sdk';
import type { Argument, Candidate, CommandContext, Flag, Flags, LookUpContext } from '../command.ts';
import { firstFew } from '../first-few.ts';

/** The argument that names one of the caller's teams. */
export const teamArg: Argument = {
  name: 'team',
  summary: 'one of your teams, by its id, slug or name',
  values: knownTeams,
};
/** The flag for a team that is not the one of the log-in. */
export const teamFlag: Flag = {
  type: 'string',
  placeholder: 'TEAM',
  summary: 'one of your teams, by its id, slug or name; default: the one that you are in',
  values: knownTeams,
};

async function knownTeams({ client, signal }: LookUpContext): Promise<readonly Candidate[]> {
  const teams = await firstFew(client().teams.list({ signal }));
  return teams.map(({ slug, name, role }) => ({ value: slug, summary: `${name} (${role})` }));
}

/** The caller's team that `text` means. Throws `not_found`, or `invalid_request` when several are called so. */
export async function findTeam({ client, signal }: CommandContext, text: string): Promise<Team> {
  const teams = await Array.fromAsync(client().teams.list({ signal }));
  const exact = teams.find(({ id, slug }) => id === text || slug.replaceAll('-', '') === text.replaceAll('-', ''));
  const named = exact ? [exact] : teams.filter(({ name }) => name === text);
  const [only] = named;
  if (!only) throw new AppError('not_found', `you are in no team ${text}; 'aviary team list' shows yours`);
  if (named.length === 1) return only;
  const slugs = named.map(({ slug }) => slug).join(', ');
  throw new AppError(
    'invalid_request',
    `${named.length} of your teams are called ${text}; name one by its slug: ${slugs}`,
  );
}

/** The id of the team that `--team` names, or of the one that the log-in is for. Throws `not_found`, `invalid_request`. */
export async function chooseTeamId(context: CommandContext, flags: Flags): Promise<string> {
  const { client, signal } = context;
  requirePerson(context);
  const asked = flags.string('team');
  if (asked !== undefined) return (await findTeam(context, asked)).id;
  const { team } = await client().accounts.me({ signal });
  if (team) return team.id;
  throw new AppError('invalid_request', "your log-in is for no team; name one with --team, or 'aviary team switch'");
}

/** Teams are for people: a key belongs to one. Throws `unauthorized`. */
export function requirePerson({ client }: CommandContext): void {
  if (client().credential === 'access_token') return;
  throw new AppError('unauthorized', "an API key cannot do this: log in with 'aviary login', and unset AVIARY_API_KEY");
}

/** What a person has of their own. Throws `unauthorized` for a key. */
export function accountsOf(context: CommandContext): AviaryClient['accounts'] {
  requirePerson(context);
  return context.client().accounts;
}

/** The member that `text` means, by id or e-mail address. Throws `not_found`. */
export async function findMember({ client, signal }: CommandContext, teamId: string, text: string): Promise<Member> {
  const wanted = text.normalize('NFKC').toLowerCase();
  for await (const member of client().teams.members(teamId, { signal })) {
    if (member.user_id === text || member.email.normalize('NFKC').toLowerCase() === wanted) return member;
  }
  throw new AppError('not_found', `there is no member ${text} in the team; 'aviary team members' lists them`);
}
