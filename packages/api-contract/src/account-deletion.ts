import { byUser } from './access.ts';
import type { RouteTable } from './route.ts';
import { OwnerProof } from './second-factors.ts';

/** The end of a person's own account. */
export const accountDeletionRoutes = {
  deleteMe: {
    tag: 'accounts',
    access: byUser,
    method: 'DELETE',
    path: '/v1/me',
    summary: 'Delete your account',
    description:
      'At once your sessions end, the keys that you made are revoked, and you are out of your teams; those that have nobody else are deleted with all they have. An owner of a team that has others hands it over first, or deletes it: `details.teams` of the error names them. For 15 days an administrator of the platform can restore the account, then it is purged. With neither a password nor a second factor, log in anew and come within 15 minutes.',
    body: OwnerProof,
    isBodyOptional: true,
    replies: { 204: null },
    errors: [409, 429],
  },
} as const satisfies RouteTable;
