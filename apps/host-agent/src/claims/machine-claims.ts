import { randomUUID } from 'node:crypto';
import { access, mkdir, readdir, readFile, realpath, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorText } from '@aviary/core';
import { FileLock, type LockNote } from '@aviary/linux/file-lock';
import { type Logger, runProgram, writeDurableFile } from '@aviary/service-kit';
import { type Claim, chooseClaim, type OtherClaim, type WantedClaim } from './choose-claim.ts';
import { type KernelSurvey, surveyKernel } from './kernel-survey.ts';

/** Longest wait for other agents that are choosing at this moment. */
const registryTimeoutMs = 30_000;

/** A claim in force: nobody else on this machine gets any of it. Disposing ends the agent's part; what runs keeps it. */
export interface MachineClaim extends Claim, Disposable {
  /** Marks what belongs to this data directory in the kernel. */
  owner: string;
  /** What the data directory had before, when that was something else. */
  previousPrefix: string | undefined;
  /** Whose data directory is gone and in whose slots nothing runs: what the kernel still has of them is to be removed. */
  abandoned: readonly AbandonedClaim[];
}

/** The slots of an agent that nobody can start again. */
export interface AbandonedClaim {
  prefix: string;
  /** Marks them in the kernel. */
  owner: string;
}

interface KeptClaim extends Claim {
  version: 1;
  owner: string;
}

export interface MachineClaimOptions {
  dataDir: string;
  /** Keeps what was claimed across restarts. */
  file: string;
  /** Where the agents of this machine find each other: a directory that a reboot empties. */
  runDirectory: string;
  wanted: WantedClaim;
}

/**
 * Claims names, slots and with them addresses and uids for the agent of one data directory, apart from those of every other on
 * this machine. The same data directory gets the same again. The kernel ends a dead agent's claim, unless something of it is left
 * there: its microVMs go on, and keep what they use. Hold the lock of the data directory before.
 */
export async function claimMachine(
  {
    logger,
    survey = () => surveyKernel({ run: runProgram }),
  }: { logger: Logger; survey?: () => Promise<KernelSurvey> },
  { dataDir, file, runDirectory, wanted }: MachineClaimOptions,
): Promise<MachineClaim> {
  const agents = path.join(runDirectory, 'agents');
  await mkdir(agents, { recursive: true, mode: 0o700 });
  using registry = await FileLock.acquire(path.join(runDirectory, 'registry.lock'), { timeoutMs: registryTimeoutMs });
  if (!registry) throw new AppError('host_unavailable', `${runDirectory} stays locked by another host agent`);
  const kept = await readKept(file);
  const owner = kept?.owner ?? randomUUID();
  const kernel = await survey();
  const { others, abandoned } = await readOthers(agents, { owner, kernel });
  const place = await realpath(dataDir);
  const { claim, ignored } = chooseClaim({ dataDir: place, wanted, kept, others, survey: kernel });
  const { prefix, firstSlot, maxSlots } = claim;
  const entry = path.join(agents, `${owner}.json`);
  const lock = FileLock.tryAcquire(entry, { dataDir: place, prefix, firstSlot, maxSlots });
  if (!lock) {
    const holder = FileLock.readNote(entry);
    throw new AppError(
      'conflict',
      `${place} is a copy of ${holder?.['dataDir'] ?? 'another data directory'}, whose host agent runs; both cannot, as they have the same microVMs`,
    );
  }
  try {
    const content: KeptClaim = { version: 1, owner, prefix, firstSlot, maxSlots };
    await writeDurableFile(file, JSON.stringify(content));
  } catch (error) {
    lock.release();
    throw error;
  }
  if (ignored.length > 0)
    logger.warn({ settings: ignored }, 'settings take effect once no sandbox of this host runs when the agent starts');
  const previousPrefix = kept && kept.prefix !== prefix ? kept.prefix : undefined;
  return { prefix, firstSlot, maxSlots, owner, previousPrefix, abandoned, [Symbol.dispose]: () => lock.release() };
}

/** Claims of agents that run, or that left something in the kernel and can come back to it. The others' entries are removed. */
async function readOthers(
  agents: string,
  { owner, kernel }: { owner: string; kernel: KernelSurvey },
): Promise<{ others: OtherClaim[]; abandoned: AbandonedClaim[] }> {
  const others: OtherClaim[] = [];
  const abandoned: AbandonedClaim[] = [];
  for (const name of await readdir(agents)) {
    const entry = path.join(agents, name);
    if (name === `${owner}.json`) continue;
    // Only who holds the registry makes entries or removes them, so this one is nobody's when its lock is free.
    using lock = FileLock.tryAcquire(entry, null);
    const claim = parseEntry(FileLock.readNote(entry));
    if (!lock) {
      if (claim) others.push(claim);
      continue;
    }
    const isInhabited = claim !== undefined && kernel.inhabitedPrefixes.has(claim.prefix);
    if (!claim || !kernel.slotsByPrefix.has(claim.prefix)) await rm(entry, { force: true });
    // Its entry stays until the kernel has nothing of it, whoever gets that far.
    else if (!isInhabited && (await isGone(claim.dataDir)))
      abandoned.push({ prefix: claim.prefix, owner: path.basename(name, '.json') });
    else others.push({ ...claim, pid: undefined, isInhabited });
  }
  return { others, abandoned };
}

async function isGone(directory: string): Promise<boolean> {
  try {
    await access(directory);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

function parseEntry(note: LockNote | undefined): OtherClaim | undefined {
  const { pid, dataDir, prefix, firstSlot, maxSlots } = note ?? ({} as Partial<LockNote>);
  if (typeof pid !== 'number' || typeof dataDir !== 'string' || typeof prefix !== 'string') return undefined;
  if (typeof firstSlot !== 'number' || typeof maxSlots !== 'number') return undefined;
  return { pid, dataDir, prefix, firstSlot, maxSlots };
}

async function readKept(file: string): Promise<KeptClaim | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const kept = JSON.parse(text) as Partial<KeptClaim>;
    const isWhole =
      kept.version === 1 &&
      typeof kept.owner === 'string' &&
      /^[0-9a-f-]{36}$/.test(kept.owner) &&
      typeof kept.prefix === 'string' &&
      typeof kept.firstSlot === 'number' &&
      typeof kept.maxSlots === 'number';
    if (!isWhole) throw new Error('not a claim of version 1');
    return kept as KeptClaim;
  } catch (error) {
    throw new AppError(
      'integrity',
      `${file} is damaged (${errorText(error)}): it says which microVMs of this machine are this host's; end them, remove it, and start again`,
      { cause: error },
    );
  }
}
