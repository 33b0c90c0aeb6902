import { chmod, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { type HostId, newId, type TeamId } from '@aviary/core';
import { writeDurableFile } from '@aviary/service-kit';
import { sql } from 'kysely';
import { findApiKeyOwner, insertApiKey } from '../api-keys/api-key-store.ts';
import type { Db, ServiceContext } from '../context.ts';
import { createHostToken } from '../hosts/register-host.ts';

const defaultSlug = 'default';

/**
 * What one machine needs to begin: a team, its API key in `bootstrap/api-key`, and while no host has registered a
 * one-time token in `bootstrap/host-token`. Starting again changes nothing that is still good.
 */
export async function bootstrap(
  context: Pick<ServiceContext, 'database' | 'clock'>,
  dataDirectory: string,
): Promise<void> {
  const { db } = context.database;
  const directory = path.join(dataDirectory, 'bootstrap');
  await mkdir(directory, { recursive: true });
  await chmod(directory, 0o700);
  const teamId = await ensureDefaultTeam(db);
  const keyFile = path.join(directory, 'api-key');
  const known = await readFile(keyFile, 'utf8').catch(() => '');
  if (!(await findApiKeyOwner(db, known.trim(), new Date(context.clock.now())))) {
    await writeDurableFile(keyFile, `${await insertApiKey(db, { teamId, name: 'bootstrap' })}\n`);
  }
  const pending = await findPendingHost(db);
  if (pending === 'registered') return;
  const { token } = await createHostToken(context, { teamId: null, ...(pending ? { hostId: pending } : {}) });
  await writeDurableFile(path.join(directory, 'host-token'), `${token}\n`);
}

async function ensureDefaultTeam(db: Db): Promise<TeamId> {
  await db
    .insertInto('teams')
    .values({ id: newId('team'), name: 'Default', slug: defaultSlug })
    .onConflict((conflict) => conflict.column('slug').doNothing())
    .execute();
  const { id } = await db.selectFrom('teams').select('id').where('slug', '=', defaultSlug).executeTakeFirstOrThrow();
  return id;
}

/** The local host as it waits for its agent, `registered` when a platform host has come before, undefined at first start. */
async function findPendingHost(db: Db): Promise<HostId | 'registered' | undefined> {
  const host = await db
    .selectFrom('hosts')
    .select(['id', 'status'])
    .where('team_id', 'is', null)
    .orderBy(sql`status = 'pending'`)
    .limit(1)
    .executeTakeFirst();
  if (!host) return undefined;
  return host.status === 'pending' ? host.id : 'registered';
}
