import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { facts, nextGenerationId, ownGenerationId, records, run, sandboxId, variants } from './record-fixture.ts';
import { parseRecord, SandboxJournal } from './sandbox-journal.ts';
import type { SandboxRecord } from './sandbox-record.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'journal-'));
});
afterEach(() => rm(directory, { recursive: true }));

const all: SandboxRecord[] = [...Object.values(records), ...variants];

it('gives back what was written, and nothing of what was removed', async () => {
  const journal = new SandboxJournal(directory);
  await journal.open();
  for (const record of all) {
    await journal.write(record);
    expect(await journal.readAll(failOnBroken)).toEqual([record]);
  }
  await journal.remove(sandboxId);
  await journal.remove(sandboxId);
  expect(await readdir(directory)).toEqual([]);
});

it('leaves a file that is no record where it is, says so, and removes what a crash left half-written', async () => {
  await writeFile(path.join(directory, `${sandboxId}.json.tmp-1`), '{');
  await writeFile(path.join(directory, `${run.runDirectoryId}.json`), JSON.stringify(records.paused));
  await writeFile(path.join(directory, `${sandboxId}.json`), '{"version":2');
  const journal = new SandboxJournal(directory);
  await journal.open();
  const broken: string[] = [];
  expect(await journal.readAll((_file, error) => broken.push(String(error)))).toEqual([]);
  expect(broken.toSorted()).toEqual([
    expect.stringContaining('not JSON'),
    expect.stringContaining(`of sandbox ${sandboxId}`),
  ]);
  expect(await readdir(directory)).toHaveLength(2);
});

describe('a record that does not fit its state', () => {
  const { run: _run, ...runless } = records.running;
  const { generationId: _none, ...nowhere } = records.paused;
  it.each<[string, unknown]>([
    ['runs without a run', runless],
    ['is paused without a generation', nowhere],
    ['is in a state that nobody knows', { ...records.paused, state: 'asleep' }],
    ['is of a later format', { ...records.paused, version: 3 }],
    ['has another kind of id', { ...records.paused, sandboxId: '../x' }],
    ['has no VMM in its run', { ...records.running, run: { ...run, vmm: { pid: 1 } } }],
  ])('%s', (_what, value) => {
    expect(() => parseRecord(JSON.stringify(value))).toThrow(expect.objectContaining({ code: 'integrity' }));
  });
});

describe('a record of the first format', () => {
  const { version: _version, generationId: _generation, ...rest } = { ...facts, runNumber: 1 };
  const { runDirectoryId: homeId, ...parts } = run;
  const { runNumber: _one, ...old } = rest;
  const base = { ...old, version: 1, homeId };
  const generation = { generationId: ownGenerationId };
  const intent = (kind: string) => ({ intent: { kind, operationId: 'op', generationId: nextGenerationId } });
  const saving = { operationId: 'op', generationId: nextGenerationId };
  const launch = { runDirectoryId: homeId, run };
  const { runDirectoryId, disk, diskGenerationId } = run;
  const remains = { runDirectoryId, disk, diskGenerationId };
  const now = { ...rest, version: 2 };
  const own = { ...base, homeId: sandboxId };

  it.each<[string, object, object]>([
    [
      'starting',
      { ...own, state: 'starting', ...intent('create') },
      { ...now, state: 'starting', operationId: 'op', launch: { runDirectoryId: sandboxId } },
    ],
    [
      'starting, its VMM up',
      { ...base, ...parts, state: 'starting', ...intent('create') },
      { ...now, state: 'starting', operationId: 'op', launch },
    ],
    [
      'running',
      { ...base, ...parts, ...generation, state: 'running' },
      { ...now, ...generation, state: 'running', run },
    ],
    [
      'running, a checkpoint under way',
      { ...base, ...parts, state: 'running', ...intent('checkpoint') },
      { ...now, state: 'running', run, checkpoint: saving },
    ],
    [
      'running, its VMM not known',
      { ...base, disk, diskGenerationId, state: 'running' },
      { ...now, state: 'error', remains },
    ],
    [
      'pausing',
      { ...base, ...parts, state: 'pausing', ...intent('pause') },
      { ...now, state: 'pausing', run, pause: saving },
    ],
    ['paused', { ...own, ...generation, state: 'paused' }, { ...now, ...generation, state: 'paused' }],
    [
      'resuming',
      { ...base, ...parts, ...generation, state: 'resuming', ...intent('resume') },
      { ...now, ...generation, state: 'resuming', operationId: 'op', launch, back: { state: 'paused', ...generation } },
    ],
    [
      'resuming from its disk',
      { ...base, disk, diskGenerationId, state: 'resuming', ...intent('resume') },
      { ...now, state: 'resuming', operationId: 'op', launch: { runDirectoryId }, back: { state: 'error', remains } },
    ],
    [
      'stopping',
      { ...base, ...parts, state: 'stopping', ...intent('destroy') },
      { ...now, state: 'stopping', operationId: 'op', launch },
    ],
    ['error', { ...base, disk, diskGenerationId, state: 'error' }, { ...now, state: 'error', remains }],
    ['error, nothing left', { ...own, state: 'error' }, { ...now, state: 'error' }],
  ])('%s', (_what, old, expected) => {
    expect(parseRecord(JSON.stringify(old))).toEqual(expected);
  });

  it('keeps the number of its run', () => {
    const counted = { ...own, ...generation, state: 'paused', run: 7 };
    expect(parseRecord(JSON.stringify(counted))).toMatchObject({ runNumber: 7 });
  });
});

function failOnBroken(file: string, error: unknown): void {
  throw new Error(`broken: ${file}`, { cause: error });
}
