import { type HostId, type SandboxStatus, sandboxStatuses, sandboxStatusTraits, type TeamId } from '@aviary/core';
import type { Db } from '../context.ts';
import { type HostRow, hostColumns } from './host-store.ts';
import { type Room, refusePlacement, type Size } from './placement-refusal.ts';

export type SandboxSize = Size;

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
const leastLoaded: PlacementPolicy = (candidates) => {
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
 * reserved: of two that compete for the last place, one sees the other's row. Throws as {@link refusePlacement} says.
 */
export async function placeSandboxes(
  db: Db,
  request: { teamId: TeamId; size: SandboxSize; count?: number; onlyHost?: HostId | null },
  options: PlacementOptions = defaultPlacement,
): Promise<HostId> {
  const { teamId, size, count = 1, onlyHost } = request;
  const online = await visibleHosts(db, teamId, onlyHost).where('status', '=', 'online').execute();
  const loads = await measureLoads(db, online);
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
  const known = await visibleHosts(db, teamId, onlyHost).execute();
  const rooms = known.map((host): Room => {
    const capacity = capacityOf(host, options);
    const load = loads.find((one) => one.host.id === host.id);
    return { isOnline: load !== undefined, capacity, free: load ? remaining(capacity, load) : capacity };
  });
  throw refusePlacement({ size, count, isBound: Boolean(onlyHost), rooms });
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

function visibleHosts(db: Db, teamId: TeamId, onlyHost: HostId | null | undefined) {
  const hosts = db
    .selectFrom('hosts')
    .select(hostColumns)
    .where((where) => where.or([where('team_id', 'is', null), where('team_id', '=', teamId)]));
  return onlyHost ? hosts.where('id', '=', onlyHost) : hosts;
}

/** What sandboxes on an empty host may be promised. */
function capacityOf(host: HostRow, options: PlacementOptions): SandboxSize {
  return {
    vcpus: host.cpu_cores * options.vcpusPerCore,
    memoryMib: Math.floor(host.memory_mib * options.memoryShare),
    diskMib: host.disk_gib * 1024 * options.diskOvercommit,
  };
}

function remaining(capacity: SandboxSize, taken: SandboxSize): SandboxSize {
  return {
    vcpus: capacity.vcpus - taken.vcpus,
    memoryMib: capacity.memoryMib - taken.memoryMib,
    diskMib: capacity.diskMib - taken.diskMib,
  };
}

function hasRoom(load: HostLoad, wanted: SandboxSize, options: PlacementOptions): boolean {
  const free = remaining(capacityOf(load.host, options), load);
  return wanted.vcpus <= free.vcpus && wanted.memoryMib <= free.memoryMib && wanted.diskMib <= free.diskMib;
}
