import { migrate, openDatabase } from '@aviary/database';
import { startTestPostgres } from '@aviary/testing';
import { sql } from 'kysely';
import { expect, test } from 'vitest';
import { insertTestTeam } from '../test-people-store.ts';
import { insertHost, registerHostRow } from './host-store.ts';
import { placeSandboxes } from './placement.ts';

test('a host that somebody else is just placing on is passed over while another has room, and else waited for', async () => {
  await using server = await startTestPostgres();
  await using database = await openDatabase({ url: await server.createDatabase() });
  await migrate(database);
  const { db } = database;
  const teamId = await insertTestTeam(db);
  const addHost = async (memoryMib: number) => {
    const id = await insertHost(db, null);
    const facts = {
      address: 'none',
      arch: 'x86_64',
      cpu_cores: 8,
      memory_mib: memoryMib,
      disk_gib: 1_000,
      agent_version: '1',
    };
    await registerHostRow(db, { id, facts, now: new Date() });
    return id;
  };
  const [large, small] = [await addHost(64_000), await addHost(4_000)];
  const place = (memoryMib: number) =>
    database.transaction((unit) => placeSandboxes(unit.db, { teamId, size: { vcpus: 1, memoryMib, diskMib: 100 } }));
  // Only the large one has room for the second.
  const waiting = await database.transaction(async (holder) => {
    await sql`SELECT FROM hosts WHERE id = ${large} FOR UPDATE`.execute(holder.db);
    expect(await place(1_000)).toBe(small);
    return { placed: place(8_000) };
  });
  expect(await waiting.placed).toBe(large);
});
