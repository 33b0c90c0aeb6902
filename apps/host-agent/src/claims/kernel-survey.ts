import { readdir, readlink, stat } from 'node:fs/promises';
import path from 'node:path';
import type { runProgram } from '@aviary/service-kit';
import { guestNetwork } from '../network/slot-address.ts';

const namespaceDirectory = '/run/netns';
const slotName = /^([a-z][a-z0-9]{0,7})-([1-9]\d{0,4})$/;

/** What this machine's kernel has of network slots, whoever made them. */
export interface KernelSurvey {
  /** Indices of which there is a namespace or a link, by the prefix of their names. */
  slotsByPrefix: ReadonlyMap<string, ReadonlySet<number>>;
  /** Prefixes of slots in which a process lives. */
  inhabitedPrefixes: ReadonlySet<string>;
  /** The link that a guest's address leads to, by the slot's index. */
  routes: ReadonlyMap<number, string>;
}

/** Asks the kernel. Needs root: only that sees which namespace other users' processes live in. */
export async function surveyKernel({ run }: { run: typeof runProgram }): Promise<KernelSurvey> {
  const [namespaces, links, routes] = await Promise.all([
    readdirIfThere(namespaceDirectory),
    vethNames(run),
    readRoutes(run),
  ]);
  const slotsByPrefix = new Map<string, Set<number>>();
  for (const name of [...namespaces, ...links]) {
    const slot = parseSlotName(name);
    if (!slot) continue;
    const indices = slotsByPrefix.get(slot.prefix) ?? new Set();
    slotsByPrefix.set(slot.prefix, indices.add(slot.index));
  }
  return { slotsByPrefix, routes, inhabitedPrefixes: await readInhabited(namespaces) };
}

function parseSlotName(name: string): { prefix: string; index: number } | undefined {
  const [, prefix, digits] = slotName.exec(name) ?? [];
  return prefix === undefined ? undefined : { prefix, index: Number(digits) };
}

async function vethNames(run: typeof runProgram): Promise<string[]> {
  const { stdout } = await run('ip', ['-json', 'link', 'show', 'type', 'veth']);
  const links: { ifname?: string }[] = stdout.trim() === '' ? [] : JSON.parse(stdout);
  return links.flatMap(({ ifname }) => (ifname === undefined ? [] : [ifname]));
}

async function readRoutes(run: typeof runProgram): Promise<Map<number, string>> {
  const { stdout } = await run('ip', ['-4', '-json', 'route', 'show', 'root', guestNetwork]);
  const routes: { dst?: string; dev?: string }[] = stdout.trim() === '' ? [] : JSON.parse(stdout);
  const links = new Map<number, string>();
  for (const { dst = '', dev } of routes) {
    const [, high, low] = /^10\.11\.(\d+)\.(\d+)$/.exec(dst) ?? [];
    if (high !== undefined && dev !== undefined) links.set(Number(high) * 256 + Number(low), dev);
  }
  return links;
}

/** A process lives in the namespace that its /proc entry names by inode; the file below /run/netns has the same one. */
async function readInhabited(namespaces: readonly string[]): Promise<Set<string>> {
  const prefixes = new Map<string, string>();
  for (const name of namespaces) {
    const slot = parseSlotName(name);
    const file = slot && (await stat(path.join(namespaceDirectory, name)).catch(() => undefined));
    if (slot && file) prefixes.set(`net:[${file.ino}]`, slot.prefix);
  }
  const inhabited = new Set<string>();
  if (prefixes.size === 0) return inhabited;
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const prefix = prefixes.get(await readlink(`/proc/${pid}/ns/net`).catch(() => ''));
    if (prefix !== undefined) inhabited.add(prefix);
  }
  return inhabited;
}

async function readdirIfThere(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // made with the first namespace
    throw error;
  }
}
