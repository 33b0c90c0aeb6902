import type { Module } from '../module.ts';
import { registerApiKeyRoutes } from './api-key-routes.ts';
import { revokeKeys } from './revoke-keys.ts';

/** Keys of programs: made, listed, revoked. */
export const apiKeysModule: Module = {
  name: 'api-keys',
  routes: registerApiKeyRoutes,
  teamResources: () => [
    {
      tables: ['api_keys'],
      deactivate: async ({ db }, { teamId, actor, now }) => {
        await revokeKeys(db, { selection: { teamId }, actor, now, cause: 'the team was deleted' });
      },
    },
  ],
};
