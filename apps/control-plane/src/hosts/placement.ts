import {
  AppError,
  type HostId,
  type SandboxStatus,
  sandboxStatuses,
  sandboxStatusTraits,
  type TeamId,
} from '@aviary/core';
import type { Db } from '../context.ts';
import { type HostRow, hostColumns } from './host-store.ts';

export interface SandboxSize {
  vcpus: number;
  memoryMib: number;
  diskMib: number;
}

export interface HostLoad extends SandboxSize {
  host: HostRow;
}

/** Puts the hosts that could take a sandbox in the order in which to try them. */
export type PlacementPolicy = (candidates: readonly HostLoad[]) => HostLoad[];

export interface PlacementOptions {
  policy: PlacementPolicy;
  /** vCPUs promised per core: sandboxes are idle most of the time. */
  vcpusPerCore: number;
  /** Share of a host's memory that sandboxes may be promised; the rest is for the host. A share suits small hosts too. */
  memoryShare: number;
  /** Disk promised per disk there is: disks are sparse and share their template's blocks. */
  diskOvercommit: number;
}

/** The host with the smallest share of its memory promised, then of its cores. */
export const leastLoaded: PlacementPolicy = (candidates) => {
  const score = ({ host, memoryMib, vcpus }: HostLoad): [number, number] => [
    memoryMib / host.memory_mib,
    vcpus / host.cpu_cores,
  ];
  return [...candidates].sort((a, b) => score(a)[0] - score(b)[0] || score(a)[1] - score(b)[1]);
};

export const defaultPlacement: PlacementOptions = {
  policy: leastLoaded,
  vcpusPerCore: 16,
  memoryShare: 0.9,
  diskOvercommit: 10,
};

const computeStatuses = sandboxStatuses.filter((status) => sandboxStatusTraits[status].reservesCompute);

/**
 * Picks a host for `count` sandboxes of one size and locks its row, so that what the caller's transaction inserts is
 * reserved: of two that compete for the last place, one sees the other's row. Throws `no_capacity`.
 */
export async function placeSandboxes(
  db: Db,
  request: { teamId: TeamId; size: SandboxSize; count?: number; onlyHost?: HostId | null },
  options: PlacementOptions = defaultPlacement,
): Promise<HostId> {
  const { teamId, size, count = 1, onlyHost } = request;
  let hosts = db
    .selectFrom('hosts')
    .select(hostColumns)
    .where('status', '=', 'online')
    .where((where) => where.or([where('team_id', 'is', null), where('team_id', '=', teamId)]));
  if (onlyHost) hosts = hosts.where('id', '=', onlyHost);
  const loads = await measureLoads(db, await hosts.execute());
  const wanted = { vcpus: size.vcpus * count, memoryMib: size.memoryMib * count, diskMib: size.diskMib * count };
  const fitting = loads.filter((load) => hasRoom(load, wanted, options));
  for (const { host } of options.policy(fitting)) {
    const locked = await db
      .selectFrom('hosts')
      .select(hostColumns)
      .where('id', '=', host.id)
      .where('status', '=', 'online')
      .forUpdate()
      .executeTakeFirst();
    if (!locked) continue;
    const [load] = await measureLoads(db, [locked]);
    if (load && hasRoom(load, wanted, options)) return host.id;
  }
  throw new AppError('no_capacity', explainRefusal(loads.length, wanted, Boolean(onlyHost)), {
    details: { hosts_online: loads.length, vcpus: wanted.vcpus, memory_mb: wanted.memoryMib },
  });
}

/** What the sandboxes of each host are promised. Paused ones hold disk only. */
async function measureLoads(db: Db, hosts: HostRow[]): Promise<HostLoad[]> {
  if (hosts.length === 0) return [];
  const rows = await db
    .selectFrom('sandboxes')
    .select(({ fn }) => [
      'host_id',
      'status',
      fn.sum<number>('vcpus').as('vcpus'),
      fn.sum<number>('memory_mib').as('memory_mib'),
      fn.sum<number>('disk_mib').as('disk_mib'),
    ])
    .where(
      'host_id',
      'in',
      hosts.map((host) => host.id),
    )
    .where('status', '<>', 'stopped')
    .groupBy(['host_id', 'status'])
    .execute();
  const isComputing = (status: SandboxStatus) => computeStatuses.includes(status);
  return hosts.map((host) => {
    const own = rows.filter((row) => row.host_id === host.id);
    const computing = own.filter((row) => isComputing(row.status));
    const total = <T>(list: T[], pick: (row: T) => number) => list.reduce((sum, row) => sum + Number(pick(row)), 0);
    return {
      host,
      vcpus: total(computing, (row) => row.vcpus),
      memoryMib: total(computing, (row) => row.memory_mib),
      diskMib: total(own, (row) => row.disk_mib),
    };
  });
}

function hasRoom(load: HostLoad, wanted: SandboxSize, options: PlacementOptions): boolean {
  const { host } = load;
  return (
    load.vcpus + wanted.vcpus <= host.cpu_cores * options.vcpusPerCore &&
    load.memoryMib + wanted.memoryMib <= host.memory_mib * options.memoryShare &&
    load.diskMib + wanted.diskMib <= host.disk_gib * 1024 * options.diskOvercommit
  );
}

function explainRefusal(onlineHosts: number, wanted: SandboxSize, isBound: boolean): string {
  if (isBound) return 'the host that holds this state is not online or has no room; stop something there and try again';
  if (onlineHosts === 0) return 'no host is online; start a host agent, or look at GET /v1/hosts';
  return `no host has room for ${wanted.vcpus} vCPUs and ${wanted.memoryMib} MiB; stop a sandbox or add a host`;
}
