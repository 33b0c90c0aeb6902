import { teamRoutes } from '@aviary/api-contract';
import { AppError, formatId, must, parseEmail, parseId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { recordAudit } from '../audit/audit-store.ts';
import type { ServiceContext } from '../context.ts';
import { pageById } from '../http/cursor.ts';
import { type ApiDeps, type Handlers, registerRoutes } from '../http/register-routes.ts';
import type { Mailer } from '../mail/mailer.ts';
import { type Attempts, invitationRules } from './invitation-rules.ts';
import { listInvitations, revokeInvitations } from './invitation-store.ts';
import { acceptInvitation, addMember } from './invitations.ts';
import { insertMember, listMembers, searchTeamMates } from './member-store.ts';
import { changeRole, holdTeam, leaveTeam, removeMember, transferTeam } from './membership.ts';
import type { TeamDeletion } from './team-deletion.ts';
import { countOwnedTeams, findTeam, insertTeam, listTeamsOf, renameTeamRow } from './team-store.ts';
import { viewInvitation, viewMember, viewTeam } from './team-view.ts';

const maxOwnedTeams = 100;
const maxShownMembers = 200;
const maxFound = 10;

type Deps = ApiDeps &
  Pick<ServiceContext, 'database' | 'clock'> & {
    teamDeletion: TeamDeletion;
    mailer: Mailer;
    accounts: { attempts: Attempts };
  };

/** Teams, their members and invitations. */
export function registerTeamRoutes(app: FastifyInstance, deps: Deps): void {
  registerRoutes(app, deps, {
    table: teamRoutes,
    handlers: { ...teamHandlers(deps), ...memberHandlers(deps), ...invitationHandlers(deps) },
  });
}

type TeamHandlers = Handlers<typeof teamRoutes>;

const now = ({ clock }: Deps) => new Date(clock.now());

function teamHandlers(
  deps: Deps,
): Pick<TeamHandlers, 'createTeam' | 'listTeams' | 'getTeam' | 'renameTeam' | 'deleteTeam' | 'transferTeam'> {
  const { database } = deps;
  return {
    createTeam: ({ caller: { userId, actor }, body: { name } }) =>
      database.transaction(async ({ db }) => {
        if ((await countOwnedTeams(db, userId)) >= maxOwnedTeams) {
          throw new AppError(
            'conflict',
            `one person owns at most ${maxOwnedTeams} teams; delete one, or hand one over`,
          );
        }
        const team = await insertTeam(db, name);
        await insertMember(db, { teamId: team.id, userId, role: 'owner' });
        const metadata = { team: name };
        await recordAudit(db, { teamId: team.id, actor, action: 'team.create', resourceId: team.id, metadata });
        return viewTeam(team, 'owner');
      }),
    listTeams: ({ caller: { userId }, query }) =>
      pageById(query, {
        kind: 'team',
        list: (range) => listTeamsOf(database.db, { userId, ...range }),
        idOf: ({ id }) => id,
        view: (row) => viewTeam(row, row.role),
      }),
    getTeam: async ({ caller: { teamId, via } }) => {
      const team = await findTeam(database.db, teamId);
      if (!team) throw new AppError('not_found', 'there is no such team');
      const members = await listMembers(database.db, { teamId, limit: maxShownMembers });
      return { ...viewTeam(team, via.role), members: members.map(viewMember) };
    },
    renameTeam: ({ caller, body: { name } }) =>
      database.transaction(async ({ db }) => {
        const { team, role } = await holdTeam(db, caller, 'admin');
        const { teamId, actor } = caller;
        await renameTeamRow(db, teamId, name);
        const metadata = { from: team.name, to: name };
        await recordAudit(db, { teamId, actor, action: 'team.rename', resourceId: teamId, metadata });
        return viewTeam({ ...team, name }, role);
      }),
    deleteTeam: ({ caller }) =>
      database.transaction(async (unit) => {
        await holdTeam(unit.db, caller, 'owner');
        await deps.teamDeletion.deleteTeam(unit, caller);
        return undefined;
      }),
    transferTeam: ({ caller, body }) =>
      database.transaction(async (unit) => {
        const { team, role } = await transferTeam(unit, caller, parseId('user', body.user_id));
        return viewTeam(team, role);
      }),
  };
}

function memberHandlers(
  deps: Deps,
): Pick<TeamHandlers, 'listMembers' | 'addMember' | 'updateMember' | 'removeMember' | 'leaveTeam' | 'searchUsers'> {
  const { database } = deps;
  return {
    listMembers: ({ caller: { teamId }, query }) =>
      pageById(query, {
        kind: 'user',
        list: (range) => listMembers(database.db, { teamId, ...range }),
        idOf: ({ user_id }) => user_id,
        view: viewMember,
      }),
    addMember: async ({ caller, body: { email: text, role = 'member' }, request }) => {
      const email = parseEmail(text);
      const who = { userId: caller.via.user.userId, emailKey: email.key, ip: request.ip };
      deps.accounts.attempts.take(invitationRules(who));
      return database.transaction((unit) =>
        addMember(unit, caller, { email, role, now: now(deps), mailer: deps.mailer }),
      );
    },
    updateMember: ({ caller, params, body: { role } }) =>
      database.transaction(async (unit) =>
        viewMember(await changeRole(unit, caller, { userId: parseId('user', params.user_id), role, now: now(deps) })),
      ),
    removeMember: ({ caller, params }) =>
      database.transaction(async (unit) => {
        await removeMember(unit, caller, { userId: parseId('user', params.user_id), now: now(deps) });
        return undefined;
      }),
    leaveTeam: ({ caller }) =>
      database.transaction(async (unit) => {
        await leaveTeam(unit, caller, now(deps));
        return undefined;
      }),
    searchUsers: async ({ caller: { userId }, query: { email } }) => {
      const emailPrefix = email.normalize('NFKC').toLowerCase();
      const rows = await searchTeamMates(database.db, { userId, emailPrefix, limit: maxFound });
      return { items: rows.map((row) => ({ user_id: formatId('user', row.id), email: row.email })) };
    },
  };
}

function invitationHandlers(
  deps: Deps,
): Pick<TeamHandlers, 'listInvitations' | 'revokeInvitation' | 'acceptInvitation'> {
  const { database } = deps;
  return {
    listInvitations: ({ caller: { teamId }, query }) =>
      pageById(query, {
        kind: 'invitation',
        list: (range) => listInvitations(database.db, { teamId, now: now(deps), ...range }),
        idOf: ({ id }) => id,
        view: viewInvitation,
      }),
    revokeInvitation: ({ caller, params }) =>
      database.transaction(async ({ db }) => {
        const { teamId, actor } = caller;
        await holdTeam(db, caller, 'admin');
        const revoked = await revokeInvitations(db, { teamId, id: parseId('invitation', params.id), now: now(deps) });
        if (revoked.length === 0) throw new AppError('not_found', 'there is no such open invitation in the team');
        const resourceId = must(revoked[0], 'one was revoked');
        await recordAudit(db, { teamId, actor, action: 'invitation.revoke', resourceId });
        return undefined;
      }),
    acceptInvitation: ({ caller, body: { token } }) =>
      database.transaction(async (unit) => {
        const { team, role } = await acceptInvitation(unit, caller, { token, now: now(deps) });
        return viewTeam(team, role);
      }),
  };
}
