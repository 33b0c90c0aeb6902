import { createHash } from 'node:crypto';
import { AppError } from '@aviary/core';
import { maxSlotIndex } from '../network/slot-address.ts';
import type { KernelSurvey } from './kernel-survey.ts';

/** What one host agent has of the machine to itself. Names, addresses and uids of its microVMs follow from it. */
export interface Claim {
  /** Starts the names of its namespaces, links, firewall table and cgroup. */
  prefix: string;
  /** Its slots are `firstSlot` … `firstSlot + maxSlots - 1`. */
  firstSlot: number;
  maxSlots: number;
}

/** Settings that were given; what was not is chosen. */
export type WantedClaim = { [K in keyof Claim]?: Claim[K] | undefined };

/** The claim of another host agent on this machine. */
export interface OtherClaim extends Claim {
  dataDir: string;
  /** Undefined when it does not run: its microVMs may. */
  pid: number | undefined;
  /** Processes live in its slots, as far as is known. */
  isInhabited?: boolean;
}

export interface ChooseClaimInput {
  /** The real path of the data directory. */
  dataDir: string;
  wanted: WantedClaim;
  /** What this data directory had before. */
  kept: Claim | undefined;
  others: readonly OtherClaim[];
  survey: KernelSurvey;
}

const defaultMaxSlots = 1_024;

/**
 * What an agent takes of its machine: what its data directory had before, so that it finds its microVMs again; else what the settings
 * say; else what is free. While its microVMs run nothing changes, whatever the settings say; `ignored` then tells what was left
 * aside. Throws `conflict` naming who has what was asked for, `no_capacity` when no range is free.
 */
export function chooseClaim(input: ChooseClaimInput): { claim: Claim; ignored: string[] } {
  const { kept, wanted, survey } = input;
  if (kept && survey.inhabitedPrefixes.has(kept.prefix)) {
    refuseTaken(kept, input.others);
    return { claim: kept, ignored: differences(kept, wanted) };
  }
  const prefix = choosePrefix(input);
  return { claim: { prefix, ...chooseSlots(input, prefix) }, ignored: [] };
}

const settings = {
  prefix: 'AVIARY_NETWORK_PREFIX',
  firstSlot: 'AVIARY_FIRST_SLOT',
  maxSlots: 'AVIARY_MAX_SLOTS',
} as const satisfies Record<keyof Claim, string>;

function differences(kept: Claim, wanted: WantedClaim): string[] {
  return (Object.keys(settings) as (keyof Claim)[])
    .filter((name) => wanted[name] !== undefined && wanted[name] !== kept[name])
    .map((name) => `${settings[name]}=${wanted[name]} (${kept[name]} stays in force)`);
}

function choosePrefix({ dataDir, wanted, kept, others, survey }: ChooseClaimInput): string {
  const holder = (prefix: string) => others.find((other) => other.prefix === prefix);
  if (wanted.prefix !== undefined) {
    const other = holder(wanted.prefix);
    if (other) throw taken(`the network prefix '${wanted.prefix}'`, other, settings.prefix);
    return wanted.prefix;
  }
  if (kept && !holder(kept.prefix)) return kept.prefix;
  for (let attempt = 0; ; attempt++) {
    const digest = createHash('sha256').update(`${dataDir}\0${attempt}`).digest('hex');
    const prefix = `av${digest.slice(0, 5)}`;
    if (!holder(prefix) && !survey.slotsByPrefix.has(prefix)) return prefix;
  }
}

function chooseSlots(input: ChooseClaimInput, prefix: string): Omit<Claim, 'prefix'> {
  const { wanted, kept, others } = input;
  const maxSlots = wanted.maxSlots ?? kept?.maxSlots ?? defaultMaxSlots;
  if (wanted.firstSlot !== undefined) {
    const claim = { prefix, firstSlot: wanted.firstSlot, maxSlots };
    refuseTaken(claim, others);
    return claim;
  }
  const isForeign = ([, link]: readonly [number, string]) =>
    !link.startsWith(`${prefix}-`) && (!kept || !link.startsWith(`${kept.prefix}-`));
  const foreign = [...input.survey.routes].filter(isForeign).map(([index]) => ({ firstSlot: index, maxSlots: 1 }));
  const busy: Omit<Claim, 'prefix'>[] = [...others, ...foreign];
  const fits = (firstSlot: number) => firstSlot + maxSlots - 1 <= maxSlotIndex;
  const blocker = (firstSlot: number) => busy.find((range) => overlaps(range, { firstSlot, maxSlots }));
  if (kept && fits(kept.firstSlot) && !blocker(kept.firstSlot)) return { firstSlot: kept.firstSlot, maxSlots };
  for (let firstSlot = 1; fits(firstSlot); ) {
    const range = blocker(firstSlot);
    if (!range) return { firstSlot, maxSlots };
    firstSlot = range.firstSlot + range.maxSlots;
  }
  const holders = others.map(({ dataDir }) => dataDir).join(', ') || 'links that no host agent claims';
  throw new AppError(
    'no_capacity',
    `no ${maxSlots} network slots in a row are free on this machine (taken by ${holders}); ask for fewer with ${settings.maxSlots}`,
  );
}

function refuseTaken(claim: Claim, others: readonly OtherClaim[]): void {
  const other = others.find((one) => one.prefix === claim.prefix || overlaps(one, claim));
  if (!other) return;
  if (other.prefix === claim.prefix) throw taken(`the network prefix '${claim.prefix}'`, other, settings.prefix);
  const last = claim.firstSlot + claim.maxSlots - 1;
  throw taken(`of the network slots ${claim.firstSlot} to ${last} some`, other, settings.firstSlot);
}

function taken(what: string, other: OtherClaim, variable: string): AppError {
  const last = other.firstSlot + other.maxSlots - 1;
  const state =
    other.pid !== undefined
      ? ` (process ${other.pid})`
      : other.isInhabited
        ? ', which is stopped while its microVMs go on'
        : ', which is stopped and keeps its slots for its next start';
  const who = `the host agent of ${other.dataDir}${state}`;
  return new AppError(
    'conflict',
    `${what} belong to ${who}: it has '${other.prefix}' and slots ${other.firstSlot} to ${last}; choose another with ${variable}, or leave it unset`,
    { details: { data_dir: other.dataDir } },
  );
}

function overlaps(a: Omit<Claim, 'prefix'>, b: Omit<Claim, 'prefix'>): boolean {
  return a.firstSlot < b.firstSlot + b.maxSlots && b.firstSlot < a.firstSlot + a.maxSlots;
}
