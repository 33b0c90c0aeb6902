import { type GenerationId, type Id, type IdKind, startPaths } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { diskFormats } from '../disk/disk-store.ts';
import type { MemorySource } from '../generations/generation-draft.ts';
import type { VmmRecord } from '../vmm/vmm.ts';

/** Format of the journal's files. `migrate-record.ts` reads older ones. */
export const recordVersion = 2;

const uuid = '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
const idOf = <K extends IdKind>(_kind: K) => Type.Unsafe<Id<K>>(Type.String({ pattern: uuid }));
const literals = <const T extends string>(values: readonly T[]) =>
  Type.Unsafe<T>(Type.Union(values.map((value) => Type.Literal(value))));
const strings = Type.Record(Type.String(), Type.String());

const Layer = Type.Object({ path: Type.String({ minLength: 1 }), format: literals(diskFormats) });
const Storage = Type.Object({ generationId: Type.String(), storageId: Type.String() });
const Memory = Type.Union([
  Type.Object({ path: Type.String(), mapping: Type.Literal('shared') }),
  Type.Object({
    path: Type.String(),
    mapping: Type.Literal('private'),
    source: Type.Unsafe<MemorySource>(
      Type.Object({
        storage: Storage,
        kind: literals(['full', 'diff']),
        path: Type.String(),
        needs: Type.Array(Storage),
      }),
    ),
  }),
]);

const Run = Type.Object({
  runDirectoryId: idOf('sandbox'),
  vmm: Type.Unsafe<VmmRecord>(
    Type.Object({
      ...{ id: Type.String(), vmm: Type.String(), pid: Type.Integer({ minimum: 1 }), startTicks: Type.String() },
      ...{ socketPath: Type.String(), runDirectory: Type.String(), cgroupPaths: Type.Array(Type.String()) },
      guestMemory: Type.Object({ path: Type.String(), mapping: literals(['shared', 'private']) }),
    }),
  ),
  slotIndex: Type.Integer({ minimum: 0 }),
  disk: Layer,
  memory: Memory,
  diskGenerationId: Type.Optional(idOf('generation')),
});
/**
 * All that one run of a sandbox holds. `runDirectoryId` names its directory below `host/sandboxes`: another than the sandbox's own when the
 * microVM came from the warm pool. `disk` is the layer that it writes, and `diskGenerationId` the generation that this lies on. A
 * booted guest writes its memory through to the file, a restored one does not.
 */
export type Run = Static<typeof Run>;

const Launch = Type.Object({ runDirectoryId: idOf('sandbox'), run: Type.Optional(Run) });
/** A run in the making. Without `run` no VMM has been started: there is nothing of it but a directory and a slot. */
export type Launch = Static<typeof Launch>;

const Remains = Type.Object({
  runDirectoryId: idOf('sandbox'),
  disk: Layer,
  diskGenerationId: Type.Optional(idOf('generation')),
});
/** What a run that ended by itself left: what its guest wrote to the disk is not lost. */
export type Remains = Static<typeof Remains>;

/** Facts that a sandbox has in every state. */
const facts = {
  version: Type.Literal(recordVersion),
  sandboxId: idOf('sandbox'),
  /** A microVM of the host's own: one that makes a boot snapshot, or waits in the warm pool. Never listed, removed at the next start. */
  isInternal: Type.Optional(Type.Literal(true)),
  teamId: idOf('team'),
  template: Type.Object({ teamId: idOf('team'), templateId: idOf('template') }),
  vcpus: Type.Integer({ minimum: 1 }),
  memoryMib: Type.Integer({ minimum: 1 }),
  diskMib: Type.Integer({ minimum: 1 }),
  timeoutSec: Type.Integer({ minimum: 0 }),
  defaultUser: Type.String(),
  envs: strings,
  /** Counts its starts: what is told of an earlier run is not news of this one. */
  runNumber: Type.Integer({ minimum: 1 }),
  /** Why it is in this state, for people. Empty when there is nothing to say. */
  reason: Type.String(),
  /** The last command that succeeded: asked again with the same id, it is answered from here. */
  lastOperationId: Type.Optional(Type.String()),
  /** The secret of the guest agent's internal routes in the current microVM. */
  hostToken: Type.String(),
  /** The secret of the guest agent's public routes. */
  accessToken: Type.String(),
  /** The latest committed generation. */
  generationId: Type.Optional(idOf('generation')),
  startPath: Type.Optional(literals(startPaths)),
  metadata: strings,
  createdAtMs: Type.Number(),
  startedAtMs: Type.Number(),
  lastActiveAtMs: Type.Number(),
  lastActivity: literals(['', 'exec', 'stream', 'files', 'ping', 'cpu', 'proxy', 'start']),
};
const Facts = Type.Object(facts);
export type SandboxFacts = Static<typeof Facts>;

const Saving = Type.Object({ operationId: Type.String(), generationId: idOf('generation') });

const Starting = Type.Object({ ...facts, state: Type.Literal('starting'), operationId: Type.String(), launch: Launch });
const Running = Type.Object({
  ...facts,
  state: Type.Literal('running'),
  run: Run,
  /** A checkpoint under way, and the generation that it is making. */
  checkpoint: Type.Optional(Saving),
});
const Pausing = Type.Object({ ...facts, state: Type.Literal('pausing'), run: Run, pause: Saving });
const Paused = Type.Object({
  ...facts,
  state: Type.Literal('paused'),
  generationId: idOf('generation'),
  /** The run that was saved, until all that it held is free. */
  freeing: Type.Optional(Run),
});
const Resuming = Type.Object({
  ...facts,
  state: Type.Literal('resuming'),
  operationId: Type.String(),
  launch: Launch,
  /** Where it goes back to when the resume fails. */
  back: Type.Union([
    Type.Object({ state: Type.Literal('paused'), generationId: idOf('generation') }),
    Type.Object({ state: Type.Literal('error'), remains: Type.Optional(Remains) }),
  ]),
});
const Stopping = Type.Object({ ...facts, state: Type.Literal('stopping'), operationId: Type.String(), launch: Launch });
const Failed = Type.Object({ ...facts, state: Type.Literal('error'), remains: Type.Optional(Remains) });

/**
 * All that the host knows of one sandbox, as its journal file holds it: which facts there are depends on the state, so that a reader
 * need not guess. Whatever a sandbox holds stands here before anybody relies on it; a crash leaves nothing that nobody knows.
 */
export const SandboxRecord = Type.Union([Starting, Running, Pausing, Paused, Resuming, Stopping, Failed]);
export type SandboxRecord = Static<typeof SandboxRecord>;

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
