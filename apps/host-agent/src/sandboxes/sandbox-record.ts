import type { GenerationId, SandboxId, StartPath, TeamId, TemplateId } from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { MemorySource } from '../generations/generation-draft.ts';
import type { VmmRecord } from '../vmm/vmm.ts';

export type HostSandboxState = 'starting' | 'running' | 'pausing' | 'paused' | 'resuming' | 'stopping' | 'error';

/** A command under way, written before its first effect, so that a later agent can finish or undo it. */
export interface SandboxIntent {
  operationId: string;
  kind: 'create' | 'destroy' | 'pause' | 'resume' | 'checkpoint';
  /** The generation that a pause or checkpoint is making, or a resume starts from. */
  generationId?: GenerationId;
}

/**
 * All that the host knows of one sandbox: the content of its journal file. Whatever a running sandbox holds (slot, VMM,
 * disk) stands here before it is taken, so that a crash can leave nothing that nobody knows.
 */
export interface SandboxRecord {
  version: 1;
  sandboxId: SandboxId;
  /** Names the directory below `host/sandboxes` with the run's files; another than `sandboxId` when the microVM came from the warm pool. */
  homeId: SandboxId;
  /** A microVM of the host's own: one that makes a boot snapshot, or waits in the warm pool. Never listed, removed at the next start. */
  isInternal?: true;
  teamId: TeamId;
  template: { teamId: TeamId; templateId: TemplateId };
  vcpus: number;
  memoryMib: number;
  diskMib: number;
  timeoutSec: number;
  defaultUser: string;
  envs: Record<string, string>;
  state: HostSandboxState;
  /** Counts its starts: what is told of an earlier run is not news of this one. */
  run: number;
  /** Why it is in this state, for people. Empty when there is nothing to say. */
  reason: string;
  intent?: SandboxIntent;
  /** The last command that succeeded: asked again with the same id, it is answered from here. */
  lastOperationId?: string;
  /** The secret of the guest agent's internal routes in the current microVM. */
  hostToken: string;
  /** The secret of the guest agent's public routes. */
  accessToken: string;
  slotIndex?: number;
  vmm?: VmmRecord;
  /** The writable layer of the current or last run. */
  disk?: DiskLayer;
  /** Guest RAM of the current run, and how it is mapped: a booted guest writes through, a restored one does not. */
  memory?: { path: string; mapping: 'shared' } | { path: string; mapping: 'private'; source: MemorySource };
  /** The generation that the current run's disk layer lies on. */
  diskGenerationId?: GenerationId;
  /** The latest committed generation. */
  generationId?: GenerationId;
  /** How the current run began. */
  startPath?: StartPath;
  metadata: Record<string, string>;
  createdAtMs: number;
  startedAtMs: number;
  lastActiveAtMs: number;
  lastActivity: ActivityKind | '';
}

/** What keeps a sandbox awake. */
export type ActivityKind = 'exec' | 'stream' | 'files' | 'ping' | 'cpu' | 'proxy' | 'start';
