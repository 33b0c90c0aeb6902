import { passkeyRoutes, type Passkey as WirePasskey } from '@aviary/api-contract';
import { AppError, formatId, parseId, platformTeamId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { lockAccount } from '../accounts/account-store.ts';
import { confirmOwner } from '../accounts/confirm-owner.ts';
import { deliver, readDevice } from '../accounts/session-cookie.ts';
import { requireWayIn } from '../accounts/ways-in-store.ts';
import { recordAudit } from '../audit/audit-store.ts';
import { registerRoutes } from '../http/register-routes.ts';
import { issuersOf } from '../identities/identity-deps.ts';
import type { ControlPlaneContext, Module } from '../module.ts';
import { addPasskey, beginPasskey, maxPasskeys } from './add-passkey.ts';
import { beginPasskeyLogIn, logInWithPasskey } from './log-in-with-passkey.ts';
import { deletePasskey, listPasskeys, type Passkey, renamePasskey } from './passkey-store.ts';

/** Keys in people's devices, by which they log in without a password. */
export const passkeysModule: Module = { name: 'passkeys', routes: registerPasskeyRoutes };

function registerPasskeyRoutes(app: FastifyInstance, deps: ControlPlaneContext): void {
  const { database, accounts } = deps;
  const { settings } = accounts;
  registerRoutes(app, deps, {
    table: passkeyRoutes,
    handlers: {
      beginPasskeyLogIn: ({ request }) => beginPasskeyLogIn(deps, readDevice(request)),
      logInWithPasskey: async ({ body, request, reply }) => {
        const issued = await logInWithPasskey(deps, body.credential, readDevice(request));
        return deliver(settings, reply, { ...issued, to: body.refresh_token_in ?? 'cookie' });
      },
      beginPasskey: async ({ caller, body, request }) => {
        await confirmOwner(deps, caller, { ...body, ipAddress: request.ip });
        return beginPasskey(deps, caller);
      },
      addPasskey: async ({ caller, body }) => viewPasskey(await addPasskey(deps, caller, body)),
      listPasskeys: async ({ caller }) => {
        const passkeys = await listPasskeys(database.db, caller.userId, { limit: maxPasskeys });
        return { items: passkeys.map(viewPasskey) };
      },
      renamePasskey: async ({ caller: { userId, actor }, params, body }) => {
        const id = parseId('passkey', params.id, 'id');
        const name = body.name.trim();
        return await database.transaction(async ({ db }) => {
          const renamed = await renamePasskey(db, { userId, id, name });
          if (!renamed) throw noSuchPasskey();
          await recordAudit(db, {
            teamId: platformTeamId,
            actor,
            action: 'user.passkey_rename',
            resourceId: userId,
            metadata: { passkey_id: id, label: name },
          });
          return viewPasskey(renamed);
        });
      },
      deletePasskey: async ({ caller: { userId, actor }, params }) => {
        const id = parseId('passkey', params.id, 'id');
        await database.transaction(async ({ db }) => {
          await lockAccount(db, userId);
          const removed = await deletePasskey(db, { userId, id });
          if (!removed) throw noSuchPasskey();
          await requireWayIn(db, { userId, issuers: issuersOf(deps.identityProviders) });
          await recordAudit(db, {
            teamId: platformTeamId,
            actor,
            action: 'user.passkey_remove',
            resourceId: userId,
            metadata: { passkey_id: id, label: removed.name },
          });
        });
      },
    },
  });
}

function viewPasskey({ id, created_at, last_used_at, ...passkey }: Passkey): WirePasskey {
  return {
    ...passkey,
    id: formatId('passkey', id),
    created_at: created_at.toISOString(),
    last_used_at: last_used_at?.toISOString() ?? null,
  };
}

function noSuchPasskey(): AppError {
  return new AppError('not_found', 'there is no such passkey');
}
