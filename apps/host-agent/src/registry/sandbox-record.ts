import { type GenerationId, type Id, type IdKind, startPaths } from '@aviary/core';
import * as v from 'valibot';
import { diskFormats } from '../disk/disk-store.ts';
import type { MemorySource } from '../generations/generation-draft.ts';
import type { VmmRecord } from '../vmm/vmm.ts';

/** Format of the journal's files. `migrate-record.ts` reads older ones. */
export const recordVersion = 2;

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** A schema whose values have a narrower type than it checks. */
const typed = <T>(schema: v.GenericSchema) => schema as v.GenericSchema<T>;
const idOf = <K extends IdKind>(_kind: K) => typed<Id<K>>(v.pipe(v.string(), v.regex(uuid)));
const integer = (min: number) => v.pipe(v.number(), v.integer(), v.minValue(min));
const strings = v.record(v.string(), v.string());

const Layer = v.object({ path: v.pipe(v.string(), v.minLength(1)), format: v.picklist(diskFormats) });
const Storage = v.object({ generationId: v.string(), storageId: v.string() });
const Memory = v.variant('mapping', [
  v.object({ path: v.string(), mapping: v.literal('shared') }),
  v.object({
    path: v.string(),
    mapping: v.literal('private'),
    source: typed<MemorySource>(
      v.object({
        storage: Storage,
        kind: v.picklist(['full', 'diff']),
        path: v.string(),
        needs: v.array(Storage),
      }),
    ),
  }),
]);

const Run = v.object({
  runDirectoryId: idOf('sandbox'),
  vmm: typed<VmmRecord>(
    v.object({
      ...{ id: v.string(), vmm: v.string(), pid: integer(1), startTicks: v.string() },
      ...{ socketPath: v.string(), runDirectory: v.string(), cgroupPaths: v.array(v.string()) },
      guestMemory: v.object({ path: v.string(), mapping: v.picklist(['shared', 'private']) }),
    }),
  ),
  slotIndex: integer(0),
  disk: Layer,
  memory: Memory,
  diskGenerationId: v.exactOptional(idOf('generation')),
});
/**
 * All that one run of a sandbox holds. `runDirectoryId` names its directory below `host/sandboxes`: another than the sandbox's own when the
 * microVM came from the warm pool. `disk` is the layer that it writes, and `diskGenerationId` the generation that this lies on. A
 * booted guest writes its memory through to the file, a restored one does not.
 */
export type Run = v.InferOutput<typeof Run>;

const Launch = v.object({ runDirectoryId: idOf('sandbox'), run: v.exactOptional(Run) });
/** A run in the making. Without `run` no VMM has been started: there is nothing of it but a directory and a slot. */
export type Launch = v.InferOutput<typeof Launch>;

const Remains = v.object({
  runDirectoryId: idOf('sandbox'),
  disk: Layer,
  diskGenerationId: v.exactOptional(idOf('generation')),
});
/** What a run that ended by itself left: what its guest wrote to the disk is not lost. */
export type Remains = v.InferOutput<typeof Remains>;

/** Facts that a sandbox has in every state. */
const facts = {
  version: v.literal(recordVersion),
  sandboxId: idOf('sandbox'),
  /** A microVM of the host's own: one that makes a boot snapshot, or waits in the warm pool. Never listed, removed at the next start. */
  isInternal: v.exactOptional(v.literal(true)),
  teamId: idOf('team'),
  template: v.object({ teamId: idOf('team'), templateId: idOf('template') }),
  vcpus: integer(1),
  memoryMib: integer(1),
  diskMib: integer(1),
  timeoutSec: integer(0),
  defaultUser: v.string(),
  envs: strings,
  /** Counts its starts: what is told of an earlier run is not news of this one. */
  runNumber: integer(1),
  /** Why it is in this state, for people. Empty when there is nothing to say. */
  reason: v.string(),
  /** The last command that succeeded: asked again with the same id, it is answered from here. */
  lastOperationId: v.exactOptional(v.string()),
  /** The secret of the guest agent's internal routes in the current microVM. */
  hostToken: v.string(),
  /** The secret of the guest agent's public routes. */
  accessToken: v.string(),
  /** The latest committed generation. */
  generationId: v.exactOptional(idOf('generation')),
  startPath: v.exactOptional(v.picklist(startPaths)),
  metadata: strings,
  createdAtMs: v.number(),
  startedAtMs: v.number(),
  lastActiveAtMs: v.number(),
  lastActivity: v.picklist(['', 'exec', 'stream', 'files', 'ping', 'cpu', 'proxy', 'start']),
};
const Facts = v.object(facts);
export type SandboxFacts = v.InferOutput<typeof Facts>;

const Saving = v.object({ operationId: v.string(), generationId: idOf('generation') });

const Starting = v.object({ ...facts, state: v.literal('starting'), operationId: v.string(), launch: Launch });
const Running = v.object({
  ...facts,
  state: v.literal('running'),
  run: Run,
  /** A checkpoint under way, and the generation that it is making. */
  checkpoint: v.exactOptional(Saving),
});
const Pausing = v.object({ ...facts, state: v.literal('pausing'), run: Run, pause: Saving });
const Paused = v.object({
  ...facts,
  state: v.literal('paused'),
  generationId: idOf('generation'),
  /** The run that was saved, until all that it held is free. */
  freeing: v.exactOptional(Run),
});
const Resuming = v.object({
  ...facts,
  state: v.literal('resuming'),
  operationId: v.string(),
  launch: Launch,
  /** Where it goes back to when the resume fails. */
  back: v.variant('state', [
    v.object({ state: v.literal('paused'), generationId: idOf('generation') }),
    v.object({ state: v.literal('error'), remains: v.exactOptional(Remains) }),
  ]),
});
const Stopping = v.object({ ...facts, state: v.literal('stopping'), operationId: v.string(), launch: Launch });
const Failed = v.object({ ...facts, state: v.literal('error'), remains: v.exactOptional(Remains) });

/**
 * All that the host knows of one sandbox, as its journal file holds it: which facts there are depends on the state, so that a reader
 * need not guess. Whatever a sandbox holds stands here before anybody relies on it; a crash leaves nothing that nobody knows.
 */
export const SandboxRecord = v.variant('state', [Starting, Running, Pausing, Paused, Resuming, Stopping, Failed]);
export type SandboxRecord = v.InferOutput<typeof SandboxRecord>;

export type HostSandboxState = SandboxRecord['state'];
export type RecordIn<S extends HostSandboxState> = Extract<SandboxRecord, { state: S }>;

/** What keeps a sandbox awake. */
export type ActivityKind = Exclude<SandboxFacts['lastActivity'], ''>;

/** A record's facts without those of its state. */
export function factsOf(record: SandboxRecord): SandboxFacts {
  return Object.fromEntries(Object.entries(record).filter(([name]) => Object.hasOwn(facts, name))) as SandboxFacts;
}

/** What must be released of a sandbox, whatever state it is in: its run if it may have one, and its run directory. */
export function launchOf(record: SandboxRecord): Launch {
  const own = { runDirectoryId: record.sandboxId };
  switch (record.state) {
    case 'starting':
    case 'resuming':
    case 'stopping':
      return record.launch;
    case 'running':
    case 'pausing':
      return { runDirectoryId: record.run.runDirectoryId, run: record.run };
    case 'paused':
      return record.freeing ? { runDirectoryId: record.freeing.runDirectoryId, run: record.freeing } : own;
    case 'error':
      return { runDirectoryId: record.remains?.runDirectoryId ?? record.sandboxId };
  }
}

/** The disk layer that a sandbox without a generation can be started from, if its last run left one. */
export function remainsOf(record: SandboxRecord): Remains | undefined {
  if (record.state === 'error') return record.remains;
  return record.state === 'resuming' && record.back.state === 'error' ? record.back.remains : undefined;
}

/** The generations that a sandbox needs, and the memory file that its running guest was restored from. */
export function rootsOf(record: SandboxRecord): { generationId: string; storageId?: string }[] {
  const { run } = launchOf(record);
  const ids = [record.generationId, run?.diskGenerationId, remainsOf(record)?.diskGenerationId];
  return [
    ...ids.filter((id): id is GenerationId => id !== undefined).map((generationId) => ({ generationId })),
    ...(run?.memory.mapping === 'private' ? [run.memory.source.storage] : []),
  ];
}
