import { chmod, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { HostId } from '@aviary/core';
import { writeDurableFile } from '@aviary/service-kit';
import { findApiKey, insertApiKey } from '../api-keys/api-key-store.ts';
import type { Db, ServiceContext } from '../context.ts';
import { findPlatformHost } from '../hosts/host-store.ts';
import { createHostToken } from '../hosts/register-host.ts';
import { ensureTeam, findTeam } from './team-store.ts';

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
  const teamId = await ensureTeam(db, { name: 'Default', slug: 'default' });
  const keyFile = path.join(directory, 'api-key');
  const known = await readFile(keyFile, 'utf8').catch(() => '');
  const present = await findApiKey(db, known.trim(), new Date(context.clock.now()));
  // A team that was deleted needs no key.
  if ((!present || present.refusal) && (await findTeam(db, teamId))) {
    const { key } = await insertApiKey(db, { teamId, name: 'bootstrap' });
    await writeDurableFile(keyFile, `${key}\n`);
  }
  const pending = await findPendingHost(db);
  if (pending === 'registered') return;
  const { token } = await createHostToken(context, { teamId: null, ...(pending ? { hostId: pending } : {}) });
  await writeDurableFile(path.join(directory, 'host-token'), `${token}\n`);
}

/** The local host as it waits for its agent, `registered` when a platform host has come before, undefined at first start. */
async function findPendingHost(db: Db): Promise<HostId | 'registered' | undefined> {
  const host = await findPlatformHost(db);
  return host && (host.status === 'pending' ? host.id : 'registered');
}
