import { AppError } from '@aviary/core';
import type { GivenRole } from '@aviary/sdk';
import type { Argument, Command } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { renderTable } from '../output.ts';
import { chooseTeamId, findMember, requirePerson, teamFlag } from './find-team.ts';
import { tokenOf } from './link-commands.ts';
import { Questions } from './read-secret.ts';

/** What one can be made; an owner is made by handing over. */
const givenRoles = ['admin', 'member'] as const satisfies readonly GivenRole[];
const memberArg: Argument = { name: 'member', summary: "a member's e-mail address or id" };
const emailArg: Argument = { name: 'email', summary: 'their e-mail address' };

/** Commands about who is in a team, and who is asked to come. */
export const memberCommands: readonly Command[] = [
  {
    name: 'team members',
    summary: 'List the members of a team',
    flags: { team: teamFlag },
    examples: ['aviary team members', 'aviary team members --team a1b2c3-d1e2f3 --json'],
    async run(context, { flags }) {
      const { client, output, signal } = context;
      const teamId = await chooseTeamId(context, flags);
      const items = await Array.fromAsync(client().teams.members(teamId, { signal }));
      output.result({ items }, () =>
        renderTable(
          ['EMAIL', 'NAME', 'ROLE', 'JOINED', 'ID'],
          items.map(({ email, name, role, joined_at, user_id }) => [email, name, role, joined_at, user_id]),
        ),
      );
    },
  },
  {
    name: 'team invite',
    summary: 'Add a member by e-mail, or invite who has no account yet',
    details:
      'Somebody whose address is verified is in at once. Anybody else is sent an invitation; where the platform sends no mail it is printed, for you to hand over.',
    args: [emailArg],
    flags: {
      team: teamFlag,
      role: { type: 'string', placeholder: 'ROLE', summary: 'admin or member (the default)', values: givenRoles },
    },
    examples: ['aviary team invite grace@example.com', 'aviary team invite grace@example.com --role admin'],
    async run(context, { args: [email = ''], flags }) {
      const role = flags.string('role');
      const request = { email, ...(role === undefined ? {} : { role: readRole(role) }) };
      const teamId = await chooseTeamId(context, flags);
      const added = await context.client().teams.addMember(teamId, request, { signal: context.signal });
      const { member, invitation, token } = added;
      context.output.result(added, () =>
        member
          ? `${member.email} is in the team (${member.role})`
          : `${invitation?.email} is invited until ${invitation?.expires_at}${token === null ? '' : `\n${token}`}`,
      );
      if (token === null) return;
      const { apiUrl } = context.client();
      context.output.note(
        `no mail is sent from here: hand it over, it is not shown again. They log in, or 'aviary signup --email ${email} --url ${apiUrl}', and give it to 'aviary team accept'`,
      );
    },
  },
  {
    name: 'team accept',
    summary: 'Accept an invitation',
    details: 'The link of its mail, or its token, is asked for, or read from standard input.',
    examples: ['aviary team accept', 'aviary team accept < invitation'],
    async run(context) {
      requirePerson(context);
      const token = tokenOf(await new Questions(context).ask('Invitation', { isSecret: true }));
      const team = await context.client().teams.acceptInvitation(token, { signal: context.signal });
      context.output.result(team, () => `you are in the team ${team.name} (${team.role})`);
      context.output.note(`'aviary team switch ${team.slug}' goes on in it`);
    },
  },
  {
    name: 'team invitations',
    summary: 'List invitations that are open',
    flags: { team: teamFlag },
    examples: ['aviary team invitations'],
    async run(context, { flags }) {
      const { client, output, signal } = context;
      const teamId = await chooseTeamId(context, flags);
      const items = await Array.fromAsync(client().teams.invitations(teamId, { signal }));
      output.result({ items }, () =>
        renderTable(
          ['EMAIL', 'ROLE', 'BY', 'EXPIRES', 'ID'],
          items.map(({ email, role, invited_by, expires_at, id }) => [email, role, invited_by ?? '-', expires_at, id]),
        ),
      );
    },
  },
  {
    name: 'team uninvite',
    summary: 'Revoke the invitation of an address',
    args: [emailArg],
    flags: { team: teamFlag },
    examples: ['aviary team uninvite grace@example.com'],
    async run(context, { args: [email = ''], flags }) {
      const { client, output, signal } = context;
      const teamId = await chooseTeamId(context, flags);
      const wanted = email.normalize('NFKC').toLowerCase();
      const open = await Array.fromAsync(client().teams.invitations(teamId, { signal }));
      const invitation = open.find((one) => one.email.normalize('NFKC').toLowerCase() === wanted);
      if (!invitation) throw new AppError('not_found', `${email} has no open invitation to the team`);
      await client().teams.revokeInvitation(teamId, invitation.id, { signal });
      output.result({ revoked: invitation }, () => `the invitation of ${invitation.email} is revoked`);
    },
  },
  {
    name: 'team role',
    summary: 'Make a member an admin of the team, or an admin a member',
    args: [memberArg, { name: 'role', summary: 'admin or member', values: givenRoles }],
    flags: { team: teamFlag },
    examples: ['aviary team role grace@example.com admin'],
    async run(context, { args: [text = '', role = ''], flags }) {
      const wanted = readRole(role);
      const teamId = await chooseTeamId(context, flags);
      const { user_id: userId } = await findMember(context, teamId, text);
      const { teams } = context.client();
      const member = await teams.updateMember(teamId, { userId, role: wanted }, { signal: context.signal });
      context.output.result(member, () => `${member.email} is ${member.role}`);
    },
  },
  {
    name: 'team remove',
    summary: 'Take a member out of the team; the keys that they made in it are revoked',
    args: [memberArg],
    flags: { team: teamFlag },
    examples: ['aviary team remove grace@example.com'],
    async run(context, { args: [text = ''], flags }) {
      const teamId = await chooseTeamId(context, flags);
      const member = await findMember(context, teamId, text);
      await context.client().teams.removeMember(teamId, member.user_id, { signal: context.signal });
      context.output.result({ removed: member }, () => `${member.email} is out of the team`);
    },
  },
];

function readRole(text: string): GivenRole {
  const role = givenRoles.find((each) => each === text);
  if (role) return role;
  const hint = text === 'owner' ? "; 'aviary team transfer' makes another owner" : '';
  throw new UsageError(`a role is admin or member, not ${JSON.stringify(text)}${hint}`);
}
