import { AppError } from '@aviary/core';

/** What a sandbox takes of a host, or what a host has. */
export interface Size {
  vcpus: number;
  memoryMib: number;
  diskMib: number;
}

/** Room on a host: what it could hold when empty, and what is left of that now. */
export interface Room {
  /** The host, as the API names it. */
  host: string;
  isOnline: boolean;
  capacity: Size;
  free: Size;
}

/** Names of a size's parts: in requests, and with their unit in sentences. */
const parts = {
  vcpus: { field: 'vcpus', unit: 'vCPUs' },
  memoryMib: { field: 'memory_mb', unit: 'MiB of memory' },
  diskMib: { field: 'disk_size_mb', unit: 'MiB of disk' },
} as const satisfies Record<keyof Size, { field: string; unit: string }>;
const names = Object.keys(parts) as (keyof Size)[];

/** Hosts that an answer tells of one by one. */
const maxHostsTold = 3;

/** Seconds after which a place may have become free. */
const retryAfterSec = 2;

/**
 * Why `count` sandboxes of `size` found no place on the hosts that the team may use, or on the one host (`isBound`) that holds what they
 * start from: `invalid_request` when no host could hold them even when empty, and names what is too large; else `no_capacity`.
 */
export function refusePlacement(request: {
  size: Size;
  count: number;
  isBound: boolean;
  rooms: readonly Room[];
}): AppError {
  const { size, count, isBound, rooms } = request;
  const online = rooms.filter((room) => room.isOnline);
  const wanted = { vcpus: size.vcpus * count, memoryMib: size.memoryMib * count, diskMib: size.diskMib * count };
  const details = {
    hosts_online: online.length,
    vcpus: wanted.vcpus,
    memory_mb: wanted.memoryMib,
    disk_size_mb: wanted.diskMib,
  };
  const later = (message: string) => new AppError('no_capacity', message, { details, retryAfterSec });
  if (online.length === 0) {
    return later(
      isBound
        ? 'the host that holds this state is not online; wait until it is back'
        : 'no host is online; start a host agent, or look at GET /v1/hosts',
    );
  }
  const able = rooms.filter(({ capacity }) => names.every((name) => wanted[name] <= capacity[name]));
  if (able.length === 0) return tooLarge({ size, wanted, count, rooms, details });
  const now = able.filter((room) => room.isOnline);
  if (now.length === 0) {
    const missing = names.map((name) => `${wanted[name]} ${parts[name].unit}`).join(' and ');
    return later(`the host that could hold ${missing} is not online; wait until it is back`);
  }
  const lacks = now.map(({ host, free }) => ({ host, parts: lacking(wanted, free) }));
  const short = names.filter((name) => now.every(({ free }) => wanted[name] > free[name]));
  const found = { ...details, hosts: lacks.slice(0, maxHostsTold).map(tellHost) };
  const what = short
    .map((name) => `${wanted[name]} ${parts[name].unit} (the most free is ${most(now, name)})`)
    .join(' and ');
  const each = lacks
    .slice(0, maxHostsTold)
    .map(
      ({ host, parts: lack }) =>
        `${host} lacks ${lack.map(({ missing, name }) => `${missing} ${parts[name].unit}`).join(' and ')}`,
    );
  // Each part fits some host: the sentence is of every one.
  const all = names.map((name) => `${wanted[name]} ${parts[name].unit}`).join(' and ');
  const sentence =
    short.length > 0 ? `${what} now` : `${all} now: ${each.join(', ')}${lacks.length > maxHostsTold ? ', …' : ''}`;
  return new AppError(
    'no_capacity',
    isBound
      ? `the host that holds this state has no room for ${sentence}; stop or pause a sandbox there`
      : `no host has room for ${sentence}; stop or pause a sandbox, or add a host`,
    { details: found, retryAfterSec },
  );
}

/** What a host has too little of, and how much. */
function lacking(wanted: Size, free: Size): { name: keyof Size; missing: number; free: number }[] {
  return names
    .filter((name) => wanted[name] > free[name])
    .map((name) => ({ name, missing: wanted[name] - Math.max(0, free[name]), free: Math.max(0, free[name]) }));
}

function tellHost({ host, parts: lack }: { host: string; parts: ReturnType<typeof lacking> }): object {
  const facts = lack.map(({ name, missing, free }) => [parts[name].field, { missing, free }]);
  return { id: host, lacks: Object.fromEntries(facts) };
}

function most(rooms: readonly Room[], name: keyof Size): number {
  return Math.max(0, ...rooms.map(({ free }) => free[name]));
}

function tooLarge(request: {
  size: Size;
  wanted: Size;
  count: number;
  rooms: readonly Room[];
  details: Record<string, unknown>;
}): AppError {
  const { size, wanted, count, rooms, details } = request;
  const largest = (name: keyof Size) => Math.max(...rooms.map(({ capacity }) => capacity[name]));
  const over = names.filter((name) => wanted[name] > largest(name));
  // Each part fits some host, but no host all of them: the whole is too large.
  const named = over.length > 0 ? over : names;
  const sentence = named
    .map((name) =>
      `${wanted[name]} ${parts[name].unit} ${wanted[name] > largest(name) ? `(the most is ${largest(name)})` : ''}`.trim(),
    )
    .join(' and ');
  const isCount = count > 1 && rooms.some(({ capacity }) => names.every((name) => size[name] <= capacity[name]));
  const what = isCount ? `${count} copies at once need` : 'it needs';
  return new AppError(
    'invalid_request',
    `no host is large enough: ${what} ${sentence}; ask for less, or add a larger host`,
    {
      details: { ...details, field: isCount ? 'count' : parts[named[0] ?? 'diskMib'].field },
    },
  );
}
