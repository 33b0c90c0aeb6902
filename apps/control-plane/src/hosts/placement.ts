import { formatId, type HostId, sandboxStatusTraits, type TeamId } from '@aviary/core';
import type { Db } from '../context.ts';
import { type HostRow, listPlacementHosts, lockFirstFreeHost, lockOnlineHost } from './host-store.ts';
import { type Room, refusePlacement, type Size } from './placement-refusal.ts';
import { sumSandboxes } from './placement-store.ts';

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

/**
 * Picks a host for `count` sandboxes of one size and locks its row, so that what the caller's transaction inserts is
 * reserved: of two that compete for the last place, one sees the other's row. Throws as {@link refusePlacement} says.
 */
export async function placeSandboxes(
  db: Db,
  request: { teamId: TeamId; size: SandboxSize; count?: number; onlyHost?: HostId | null },
  options: PlacementOptions = defaultPlacement,
): Promise<HostId> {
  const { teamId, size, count = 1, onlyHost = null } = request;
  const loads = await measureLoads(db, await listPlacementHosts(db, { teamId, onlyHost, onlineOnly: true }));
  const wanted = { vcpus: size.vcpus * count, memoryMib: size.memoryMib * count, diskMib: size.diskMib * count };
  const fitting = loads.filter((load) => hasRoom(load, wanted, options));
  const chosen = await reserveOne(db, { candidates: options.policy(fitting), wanted }, options);
  if (chosen !== undefined) return chosen;
  const known = await listPlacementHosts(db, { teamId, onlyHost, onlineOnly: false });
  const rooms = known.map((host): Room => {
    const capacity = capacityOf(host, options);
    const load = loads.find((one) => one.host.id === host.id);
    return {
      host: formatId('host', host.id),
      isOnline: load !== undefined,
      capacity,
      free: load ? remaining(capacity, load) : capacity,
    };
  });
  throw refusePlacement({ size, count, isBound: Boolean(onlyHost), rooms });
}

/** Locks the first of `candidates` that has room. One that another transaction holds is waited for only when no other has. */
async function reserveOne(
  db: Db,
  { candidates, wanted }: { candidates: readonly HostLoad[]; wanted: SandboxSize },
  options: PlacementOptions,
): Promise<HostId | undefined> {
  const fits = async (locked: HostRow) => {
    const [load] = await measureLoads(db, [locked]);
    return load !== undefined && hasRoom(load, wanted, options);
  };
  let left = candidates.map(({ host }) => host.id);
  while (left.length > 1) {
    const free = await lockFirstFreeHost(db, left);
    if (!free) break;
    if (await fits(free)) return free.id;
    left = left.filter((id) => id !== free.id);
  }
  for (const id of left) {
    const locked = await lockOnlineHost(db, id);
    if (locked && (await fits(locked))) return id;
  }
  return undefined;
}

/** What the sandboxes of each host are promised. Paused ones hold disk only. */
async function measureLoads(db: Db, hosts: HostRow[]): Promise<HostLoad[]> {
  const sums = await sumSandboxes(
    db,
    hosts.map((host) => host.id),
  );
  return hosts.map((host) => {
    const own = sums.filter((sum) => sum.hostId === host.id);
    const computing = own.filter(({ status }) => sandboxStatusTraits[status].reservesCompute);
    const total = (list: readonly Size[], part: keyof Size) => list.reduce((all, sum) => all + sum[part], 0);
    return {
      host,
      vcpus: total(computing, 'vcpus'),
      memoryMib: total(computing, 'memoryMib'),
      diskMib: total(own, 'diskMib'),
    };
  });
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
