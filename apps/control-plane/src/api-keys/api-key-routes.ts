import { apiKeyRoutes, type CreateApiKey, type CreatedApiKey } from '@aviary/api-contract';
import { AppError, hasRole, must, parseId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { recordAudit } from '../audit/audit-store.ts';
import type { ServiceContext } from '../context.ts';
import { pageById } from '../http/cursor.ts';
import { type ApiDeps, type MemberCaller, registerRoutes } from '../http/register-routes.ts';
import { type ApiKeyRow, findTeamKey, insertApiKey, listApiKeys, lockMaker } from './api-key-store.ts';
import { viewApiKey } from './api-key-view.ts';
import { revokeKeys } from './revoke-keys.ts';

type Deps = ApiDeps & Pick<ServiceContext, 'database' | 'clock'>;

/** Where members make, list and revoke their team's keys. */
export function registerApiKeyRoutes(app: FastifyInstance, deps: Deps): void {
  const { database } = deps;
  registerRoutes(app, deps, {
    table: apiKeyRoutes,
    handlers: {
      createApiKey: ({ caller, body }) => createApiKey(deps, caller, body),
      listApiKeys: ({ caller: { teamId }, query }) =>
        pageById(query, {
          kind: 'apiKey',
          list: (range) => listApiKeys(database.db, { teamId, ...range }),
          idOf: ({ id }) => id,
          view: viewApiKey,
        }),
      revokeApiKey: async ({ caller, params }) => {
        const id = parseId('apiKey', params.id, 'id');
        const { teamId, actor } = caller;
        await database.transaction(async ({ db }) => {
          const row = await findTeamKey(db, teamId, id);
          if (!row) throw new AppError('not_found', 'there is no such API key; GET /v1/api-keys lists yours');
          if (!mayRevoke(caller, row)) {
            throw new AppError('forbidden', 'a member revokes keys that they made; ask an admin of the team');
          }
          await revokeKeys(db, { selection: { teamId, id }, actor, now: new Date(deps.clock.now()) });
        });
      },
    },
  });
}

async function createApiKey(
  { database, clock }: Deps,
  { teamId, actor, via }: MemberCaller,
  { name, scopes, expires_at }: CreateApiKey,
): Promise<CreatedApiKey> {
  const expiresAt = readExpiry(expires_at, clock.now());
  return await database.transaction(async ({ db }) => {
    const createdBy = via.user.userId;
    if (!(await lockMaker(db, { teamId, userId: createdBy }))) {
      throw new AppError('forbidden', 'you are not a member of the team any more');
    }
    const { id, key } = await insertApiKey(db, { teamId, name, expiresAt, createdBy, ...(scopes ? { scopes } : {}) });
    const row = must(await findTeamKey(db, teamId, id), 'it was made in this transaction');
    const metadata = { key: name, scopes: row.scopes };
    await recordAudit(db, { teamId, actor, action: 'api_key.create', resourceId: id, metadata });
    return { ...viewApiKey(row), key };
  });
}

function mayRevoke({ via }: MemberCaller, key: ApiKeyRow): boolean {
  return hasRole(via.role, 'admin') || key.created_by === via.user.userId;
}

function readExpiry(text: string | null | undefined, nowMs: number): Date | null {
  if (text === null || text === undefined) return null;
  const date = new Date(text);
  // Also false for what is no date at all.
  if (date.getTime() > nowMs) return date;
  throw new AppError('invalid_request', 'expires_at must be a time in the future', {
    details: { field: 'expires_at' },
  });
}
