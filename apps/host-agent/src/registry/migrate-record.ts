import type { SandboxRecord } from './sandbox-record.ts';
import { recordVersion } from './sandbox-record.ts';

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null;

/**
 * A record of the journal's first format in today's, or the value itself if it is none. That format was one flat object whose facts
 * were there or not, with the command under way in `intent`. The result is checked as any other record is.
 */
export function migrateRecord(value: unknown): unknown {
  if (!isObject(value) || value['version'] !== 1) return value;
  const {
    version: _version,
    run: runNumber = 1,
    homeId,
    intent,
    slotIndex,
    vmm,
    disk,
    memory,
    diskGenerationId,
    state,
    ...facts
  } = value;
  const runDirectoryId = homeId;
  const below = diskGenerationId === undefined ? {} : { diskGenerationId };
  const run = vmm && slotIndex !== undefined ? { runDirectoryId, vmm, slotIndex, disk, memory, ...below } : undefined;
  const launch = { runDirectoryId, ...(run ? { run } : {}) };
  const remains = disk ? { remains: { runDirectoryId, disk, ...below } } : {};
  const { kind = undefined, operationId = 'unknown', generationId = undefined } = isObject(intent) ? intent : {};
  const saving = { operationId, generationId };
  const common = { ...facts, runNumber, version: recordVersion };
  const lost = { ...common, state: 'error', ...remains };
  switch (state as SandboxRecord['state']) {
    case 'starting':
    case 'stopping':
      return { ...common, state, operationId, launch };
    case 'running':
      return run ? { ...common, state, run, ...(kind === 'checkpoint' ? { checkpoint: saving } : {}) } : lost;
    case 'pausing':
      if (!run) return lost;
      return kind === 'pause' ? { ...common, state, run, pause: saving } : { ...common, state: 'running', run };
    case 'paused':
      // A pause whose end failed: what it held is still to be freed.
      return { ...common, state, ...(run ? { freeing: run } : {}) };
    case 'resuming': {
      const last = facts['generationId'];
      const back = last === undefined ? { state: 'error', ...remains } : { state: 'paused', generationId: last };
      return { ...common, state, operationId, launch, back };
    }
    default:
      return lost;
  }
}
