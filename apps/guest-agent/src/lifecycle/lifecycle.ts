import { AppError } from '@aviary/core';
import { withDeadline } from '@aviary/service-kit/deadline';
import type { AccessTokens } from '../access/access-tokens.ts';
import type { ProcessGroups } from '../processes/user-cgroup.ts';
import type { SandboxSettings } from '../sandbox-settings.ts';
import type { GuestMachine, PeerAddress } from './guest-machine.ts';
import type { InitRequest } from './init-request.ts';

export interface LifecycleDeps {
  machine: GuestMachine;
  tokens: AccessTokens;
  settings: SandboxSettings;
  groups: ProcessGroups | undefined;
}

const freezeTimeoutMs = 2_000;
/** A disk that writes slower than this is taken for broken: the pause fails and the sandbox goes on. */
const syncFloorBytesPerSecond = 50 * 1024 * 1024;
const syncTimeoutMs = { min: 5_000, max: 120_000 } as const;

/**
 * Makes a booted or restored guest this sandbox: time, entropy, tokens, identity, environment, network. Before user
 * processes run again. Safe to repeat. Returns what could not be done.
 */
export function initializeGuest(request: InitRequest, peer: PeerAddress, deps: LifecycleDeps): string[] {
  const { machine, tokens, settings } = deps;
  machine.setClock(request.timestampMs);
  machine.addEntropy(request.entropy);
  machine.setIdentity(request);
  if (request.envVars !== undefined) settings.envVars = request.envVars;
  if (request.defaultUser !== undefined) settings.defaultUser = request.defaultUser;
  if (request.defaultWorkdir !== undefined) settings.defaultWorkdir = request.defaultWorkdir;
  machine.flushNeighbours();
  const areDropped = machine.dropStaleConnections(peer);
  // Late: a step that failed leaves the tokens with which the host repeats the call.
  tokens.rotate(request);
  if (request.thaw) thawGuest(deps);
  return areDropped ? [] : ['stale TCP connections: the kernel has no socket destruction'];
}

/** Stops user processes and writes their data to the disks. When it fails, everything runs again. */
export async function freezeGuest({ machine, groups }: LifecycleDeps): Promise<void> {
  const { freeze, thaw } = requireGroups(groups);
  await freeze(freezeTimeoutMs);
  const neededMs = (machine.dirtyBytes() / syncFloorBytesPerSecond) * 1_000;
  const timeoutMs = Math.round(Math.min(Math.max(neededMs, syncTimeoutMs.min), syncTimeoutMs.max));
  try {
    await withDeadline({ what: 'writing dirty data to the disks', timeoutMs }, () => machine.syncDisks());
  } catch (error) {
    thaw();
    throw error;
  }
}

/** Lets user processes go on. `timestampMs` is the host's clock: the guest's own stood still while its vCPUs did. */
export function thawGuest({ groups, machine }: LifecycleDeps, timestampMs?: number): void {
  if (timestampMs !== undefined) machine.setClock(timestampMs);
  requireGroups(groups).thaw();
}

function requireGroups(groups: ProcessGroups | undefined) {
  if (!groups) {
    throw new AppError(
      'not_implemented',
      'cannot freeze user processes: this guest has no cgroup v2 hierarchy; mount one',
    );
  }
  return {
    freeze: (timeoutMs: number) => groups.freeze(timeoutMs),
    thaw: () => groups.thaw(),
  };
}
