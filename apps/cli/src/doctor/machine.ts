import { spawnSync } from 'node:child_process';
import { constants } from 'node:fs';
import { access, open, readdir, readFile, statfs } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { FileLock } from '@aviary/linux/file-lock';
import { AviaryClient } from '@aviary/sdk';
import { hasImages, missingPackageNames } from '../platform/guest-images.ts';
import { type Address, findPortHolder, isPortFree } from '../platform/ports.ts';

/** What the checks ask about a machine. */
export interface Machine {
  nodeVersion: string;
  uid: number;
  totalMemoryMib: number;
  /** A file's text; undefined when it cannot be read. */
  readText(file: string): Promise<string | undefined>;
  /** Exit code of a program; undefined when it is not installed. */
  exitCodeOf(file: string, args: readonly string[]): Promise<number | undefined>;
  /** Undefined when it can be opened for reading and writing, else the error's code. */
  openError(file: string): Promise<string | undefined>;
  /** Free space where `directory` is or will be made. */
  freeMib(directory: string): Promise<number>;
  /** Undefined when `directory`, or the nearest one above it that exists, can be written, else the error's code. */
  writeError(directory: string): Promise<string | undefined>;
  missingPackages(): Promise<readonly string[]>;
  hasImages(dataDir: string): Promise<boolean>;
  isPortFree(address: Address): Promise<boolean>;
  portHolder(port: number): Promise<string | undefined>;
  isApiHealthy(apiUrl: string): Promise<boolean>;
  /** Host agents that claimed names and network slots of this machine since it booted; undefined when this user may not see them. */
  hostAgents(runDirectory: string): Promise<readonly HostAgentClaim[] | undefined>;
}

/** What one host agent has of a machine to itself. */
export interface HostAgentClaim {
  dataDir: string;
  /** Starts the names of its network slots. */
  prefix: string;
  firstSlot: number;
  maxSlots: number;
  /** Undefined when the agent does not run. */
  pid: number | undefined;
  /** Network slots that are there, each with a microVM or ready for one. */
  slots: number;
}

/** The machine that this process runs on. */
export const thisMachine: Machine = {
  nodeVersion: process.versions.node,
  uid: process.getuid?.() ?? -1,
  totalMemoryMib: Math.floor(os.totalmem() / 1024 ** 2),
  readText: (file) => readFile(file, 'utf8').catch(() => undefined),
  exitCodeOf: async (file, args) => {
    const { status, error } = spawnSync(file, args, { stdio: 'ignore', timeout: 10_000 });
    return error ? undefined : (status ?? -1);
  },
  openError: async (file) => {
    try {
      await (await open(file, 'r+')).close();
      return undefined;
    } catch (error) {
      return errorCode(error);
    }
  },
  freeMib: async (directory) => {
    const { bavail, bsize } = await statfs(await nearestExisting(directory));
    return Math.floor((bavail * bsize) / 1024 ** 2);
  },
  writeError: async (directory) => {
    try {
      await access(await nearestExisting(directory), constants.W_OK | constants.X_OK);
      return undefined;
    } catch (error) {
      return errorCode(error);
    }
  },
  missingPackages: missingPackageNames,
  hasImages,
  isPortFree,
  portHolder: findPortHolder,
  isApiHealthy: (apiUrl) =>
    new AviaryClient({ apiUrl, retry: { maxRetries: 0 } }).health({ timeoutMs: 3_000 }).then(
      () => true,
      () => false,
    ),
  hostAgents: readHostAgents,
};

/** Reads the notes that host agents leave for each other. */
async function readHostAgents(runDirectory: string): Promise<HostAgentClaim[] | undefined> {
  const directory = path.join(runDirectory, 'agents');
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    return errorCode(error) === 'ENOENT' ? [] : undefined;
  }
  const namespaces = await readdir('/run/netns').catch(() => []);
  return names.flatMap((name) => {
    const note = FileLock.readNote(path.join(directory, name));
    if (!note) return [];
    const { dataDir, prefix, firstSlot, maxSlots } = note;
    if (typeof dataDir !== 'string' || typeof prefix !== 'string') return [];
    if (typeof firstSlot !== 'number' || typeof maxSlots !== 'number') return [];
    const slots = namespaces.filter((namespace) => namespace.startsWith(`${prefix}-`)).length;
    const isRunning = FileLock.isHeld(path.join(directory, name));
    return [{ dataDir, prefix, firstSlot, maxSlots, pid: isRunning ? note.pid : undefined, slots }];
  });
}

async function nearestExisting(directory: string): Promise<string> {
  for (let place = path.resolve(directory); ; place = path.dirname(place)) {
    const isThere = await access(place).then(
      () => true,
      () => false,
    );
    if (isThere || place === path.dirname(place)) return place;
  }
}

function errorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'error';
}
