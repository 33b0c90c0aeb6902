import { AppError } from '@aviary/core';
import type { Argument, Command, CommandContext } from '../command.ts';
import { renderTable } from '../output.ts';
import { chooseTeamId, findMember, findTeam, requirePerson, teamArg, teamFlag } from './find-team.ts';
import { chooseProfile, readProfiles, requireProfilesFile } from './profile-store.ts';
import { switchSession } from './session-token.ts';

const nameArg: Argument = { name: 'name', summary: 'what to call the team' };

/** Commands about the teams of one who has logged in. */
export const teamCommands: readonly Command[] = [
  {
    name: 'team list',
    aliases: ['team ls'],
    summary: 'List your teams; the one that you are in is marked',
    examples: ['aviary team list'],
    async run(context) {
      const { client, output, signal } = context;
      requirePerson(context);
      const [me, items] = await Promise.all([
        client().accounts.me({ signal }),
        Array.fromAsync(client().teams.list({ signal })),
      ]);
      output.result({ items, current_id: me.team?.id ?? null }, () =>
        renderTable(
          ['', 'SLUG', 'NAME', 'ROLE', 'ID'],
          items.map(({ id, slug, name, role }) => [id === me.team?.id ? '*' : '', slug, name, role, id]),
        ),
      );
    },
  },
  {
    name: 'team create',
    summary: 'Make a team; you are its owner',
    args: [nameArg],
    examples: ["aviary team create 'data science'"],
    async run(context, { args: [name = ''] }) {
      const { client, output, signal } = context;
      requirePerson(context);
      const team = await client().teams.create(name, { signal });
      output.result(team, () => `${team.slug}  ${team.name}  ${team.id}`);
      output.note(`'aviary team switch ${team.slug}' goes on in it`);
    },
  },
  {
    name: 'team switch',
    summary: 'Go on in another of your teams',
    details: 'All that uses the same profile is in that team from then on.',
    args: [teamArg],
    examples: ['aviary team switch a1b2c3-d1e2f3'],
    async run(context, { args: [text = ''] }) {
      const { client, config, output, signal } = context;
      requirePerson(context);
      const file = requireProfilesFile(config.env);
      const chosen = chooseProfile(readProfiles(file), config.profile);
      if (!chosen) throw new AppError('unauthorized', "you have logged out meanwhile; 'aviary login' logs in again");
      const { id } = await findTeam(context, text);
      const { team } = await switchSession({ file, name: chosen.name, client: client() }, id, signal);
      output.result({ team }, () => `in the team ${team?.name ?? ''} (${team?.role ?? ''})`);
    },
  },
  {
    name: 'team rename',
    summary: 'Give a team another name; its slug stays',
    args: [nameArg],
    flags: { team: teamFlag },
    examples: ["aviary team rename 'data platform'"],
    async run(context, { args: [name = ''], flags }) {
      const teamId = await chooseTeamId(context, flags);
      const team = await context.client().teams.rename(teamId, name, { signal: context.signal });
      context.output.result(team, () => `${team.slug} is called ${team.name}`);
    },
  },
  {
    name: 'team leave',
    summary: 'Leave a team; the keys that you made in it are revoked',
    args: [teamArg],
    examples: ['aviary team leave a1b2c3-d1e2f3'],
    async run(context, { args: [text = ''] }) {
      const { team, act } = await chosenTeam(context, text);
      await act.leave(team.id, { signal: context.signal });
      context.output.result({ left: team }, () => `you have left ${team.name}`);
    },
  },
  {
    name: 'team transfer',
    summary: 'Hand a team over to another member, and be one of its admins',
    args: [{ name: 'member', summary: "the new owner's e-mail address or id" }],
    flags: { team: teamFlag },
    examples: ['aviary team transfer grace@example.com'],
    async run(context, { args: [text = ''], flags }) {
      const teamId = await chooseTeamId(context, flags);
      const member = await findMember(context, teamId, text);
      const team = await context.client().teams.transfer(teamId, member.user_id, { signal: context.signal });
      context.output.result(team, () => `${member.email} is the owner of ${team.name}`);
    },
  },
  {
    name: 'team delete',
    summary: 'Delete a team with its sandboxes, snapshots and keys',
    args: [teamArg],
    examples: ['aviary team delete a1b2c3-d1e2f3'],
    async run(context, { args: [text = ''] }) {
      const { team, act } = await chosenTeam(context, text);
      await act.delete(team.id, { signal: context.signal });
      context.output.result({ deleted: team }, () => `${team.name} is deleted; its hosts are being cleared`);
    },
  },
];

async function chosenTeam(context: CommandContext, text: string) {
  requirePerson(context);
  return { team: await findTeam(context, text), act: context.client().teams };
}
