import { emailLimits, teamRoles, wireIdSource } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { byMemberOfPath, byUser } from './access.ts';
import { component } from './component.ts';
import { closed, cursor, emailPrefix, limit, nullable, teamName, text, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';

const role = Type.Enum([...teamRoles]);
/** What a member can be made; a team has one owner, who hands it over. */
const givenRole = Type.Enum(['admin', 'member']);
const email = text(emailLimits.maxLength, emailLimits.minLength);

const TeamFields = {
  id: wireId('team'),
  name: Type.String(),
  slug: Type.String({ description: 'A short name that never changes, and is never given to another team.' }),
  role: Type.Enum([...teamRoles], { description: 'What the caller is in the team.' }),
  created_at: timestamp,
};

export const Team = component('Team', Type.Object(TeamFields));
export type Team = Static<typeof Team>;

export const Member = component(
  'Member',
  Type.Object({ user_id: wireId('user'), email: Type.String(), name: Type.String(), role, joined_at: timestamp }),
);
export type Member = Static<typeof Member>;

export const TeamDetails = component('TeamDetails', Type.Object({ ...TeamFields, members: Type.Array(Member) }));

export type TeamDetails = Static<typeof TeamDetails>;

export const Invitation = component(
  'Invitation',
  Type.Object({
    id: wireId('invitation'),
    email: Type.String(),
    role: givenRole,
    invited_by: nullable(Type.String()),
    created_at: timestamp,
    expires_at: timestamp,
  }),
);
export type Invitation = Static<typeof Invitation>;

export const AddedMember = component(
  'AddedMember',
  Type.Object({
    member: Type.Union([Member, Type.Null()], { description: 'Of somebody who has an account: they are in.' }),
    invitation: Type.Union([Invitation, Type.Null()], { description: 'Of somebody else: it was sent to them.' }),
    token: Type.Union([Type.String(), Type.Null()], {
      description: "The invitation's token, where the platform sends no mail: hand it over yourself.",
    }),
  }),
);
export type AddedMember = Static<typeof AddedMember>;

export const FoundUser = component('FoundUser', Type.Object({ user_id: wireId('user'), email: Type.String() }));
export type FoundUser = Static<typeof FoundUser>;

const pageOf = <S extends Parameters<typeof Type.Array>[0]>(item: S) =>
  Type.Object({ items: Type.Array(item), next_cursor: nullable(Type.String()) });
export const TeamPage = component('TeamPage', pageOf(Team));
export const MemberPage = component('MemberPage', pageOf(Member));
export const InvitationPage = component('InvitationPage', pageOf(Invitation));

const TeamParams = Type.Object({ team_id: wireId('team') });
const MemberParams = Type.Object({ team_id: wireId('team'), user_id: wireId('user') });
const TeamName = component('TeamName', Type.Object({ name: teamName }, closed));

const tag = 'teams';

/** Teams, who is in them, and who is asked to come. */
export const teamRoutes = {
  createTeam: {
    tag,
    access: byUser,
    method: 'POST',
    path: '/v1/teams',
    summary: 'Make a team',
    description: 'The caller is its owner. At most 100 teams may be owned by one person.',
    body: TeamName,
    replies: { 201: Team },
    errors: [409],
  },
  listTeams: {
    tag,
    access: byUser,
    method: 'GET',
    path: '/v1/teams',
    summary: "List the caller's teams",
    query: Type.Object({ limit, cursor: cursor(wireIdSource('team')) }),
    replies: { 200: TeamPage },
  },
  getTeam: {
    tag,
    access: byMemberOfPath(),
    method: 'GET',
    path: '/v1/teams/{team_id}',
    summary: 'Get a team with its members',
    description: 'With the first 200 members; the list of members has all.',
    params: TeamParams,
    replies: { 200: TeamDetails },
  },
  renameTeam: {
    tag,
    access: byMemberOfPath('admin'),
    method: 'PATCH',
    path: '/v1/teams/{team_id}',
    summary: 'Rename a team',
    params: TeamParams,
    body: TeamName,
    replies: { 200: Team },
  },
  deleteTeam: {
    tag,
    access: byMemberOfPath('owner'),
    method: 'DELETE',
    path: '/v1/teams/{team_id}',
    summary: 'Delete a team with all it has',
    description:
      'At once nobody can use it or its keys. Its sandboxes, running or paused, and its snapshots are then deleted from their hosts, also from those that are away now.',
    params: TeamParams,
    replies: { 204: null },
  },
  listMembers: {
    tag,
    access: byMemberOfPath(),
    method: 'GET',
    path: '/v1/teams/{team_id}/members',
    summary: 'List the members of a team',
    params: TeamParams,
    query: Type.Object({ limit, cursor: cursor(wireIdSource('user')) }),
    replies: { 200: MemberPage },
  },
  addMember: {
    tag,
    access: byMemberOfPath('admin'),
    method: 'POST',
    path: '/v1/teams/{team_id}/members',
    summary: 'Add a member by e-mail',
    description:
      'Somebody with an account whose address is verified is in at once. Anybody else is sent an invitation, good once and for seven days; an earlier one to the same address is void then.',
    params: TeamParams,
    body: component('AddMember', Type.Object({ email, role: Type.Optional(givenRole) }, closed)),
    replies: { 201: AddedMember },
    errors: [409],
  },
  updateMember: {
    tag,
    access: byMemberOfPath('admin'),
    method: 'PATCH',
    path: '/v1/teams/{team_id}/members/{user_id}',
    summary: "Change a member's role",
    description: "The owner's role changes by handing the team over.",
    params: MemberParams,
    body: component('UpdateMember', Type.Object({ role: givenRole }, closed)),
    replies: { 200: Member },
    errors: [409],
  },
  removeMember: {
    tag,
    access: byMemberOfPath('admin'),
    method: 'DELETE',
    path: '/v1/teams/{team_id}/members/{user_id}',
    summary: 'Remove a member',
    description:
      'The keys and the open invitations that they made in the team are revoked. The owner cannot be removed.',
    params: MemberParams,
    replies: { 204: null },
    errors: [409],
  },
  leaveTeam: {
    tag,
    access: byMemberOfPath(),
    method: 'POST',
    path: '/v1/teams/{team_id}/leave',
    summary: 'Leave a team',
    description:
      "The caller's keys and open invitations in the team are revoked. The owner hands the team over first, or deletes it.",
    params: TeamParams,
    replies: { 204: null },
    errors: [409],
  },
  transferTeam: {
    tag,
    access: byMemberOfPath('owner'),
    method: 'POST',
    path: '/v1/teams/{team_id}/transfer',
    summary: 'Hand a team over to another member',
    description: 'They are its owner then, and the caller an admin.',
    params: TeamParams,
    body: component('TransferTeam', Type.Object({ user_id: wireId('user') }, closed)),
    replies: { 200: Team },
  },
  listInvitations: {
    tag,
    access: byMemberOfPath('admin'),
    method: 'GET',
    path: '/v1/teams/{team_id}/invitations',
    summary: 'List open invitations',
    params: TeamParams,
    query: Type.Object({ limit, cursor: cursor(wireIdSource('invitation')) }),
    replies: { 200: InvitationPage },
  },
  revokeInvitation: {
    tag,
    access: byMemberOfPath('admin'),
    method: 'DELETE',
    path: '/v1/teams/{team_id}/invitations/{id}',
    summary: 'Revoke an invitation',
    params: Type.Object({ team_id: wireId('team'), id: wireId('invitation') }),
    replies: { 204: null },
  },
  acceptInvitation: {
    tag,
    access: byUser,
    method: 'POST',
    path: '/v1/invitations/accept',
    summary: 'Accept an invitation',
    description: "Its address must be the caller's.",
    body: component('AcceptInvitation', Type.Object({ token: text(100, 1) }, closed)),
    replies: { 200: Team },
    errors: [404, 409],
  },
  searchUsers: {
    tag,
    access: byUser,
    method: 'GET',
    path: '/v1/users/search',
    summary: 'Find people by the beginning of their address',
    description: 'Of those who share a team with the caller, at most ten.',
    query: Type.Object({ email: emailPrefix }),
    replies: { 200: component('FoundUsers', Type.Object({ items: Type.Array(FoundUser) })) },
  },
} as const satisfies RouteTable;
