import type { Module } from '../module.ts';
import { revokeInvitations } from './invitation-store.ts';
import { deleteMembers } from './member-store.ts';
import { teamMails } from './team-mails.ts';
import { registerTeamRoutes } from './team-routes.ts';

/** Teams, their members and invitations, and the end of a team. */
export const teamsModule: Module = {
  name: 'teams',
  routes: registerTeamRoutes,
  mails: () => teamMails,
  loops: ({ teamDeletion }) => [(signal) => teamDeletion.run(signal)],
  teamResources: () => [
    {
      tables: ['team_members', 'team_invitations'],
      deactivate: async ({ db }, { teamId, now }) => {
        await revokeInvitations(db, { teamId, now });
        await deleteMembers(db, teamId);
      },
    },
    // What happened stays, under the id of a team that is never given again.
    { tables: ['outbox_events'] },
  ],
};
