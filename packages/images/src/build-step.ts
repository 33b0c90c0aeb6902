import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type FaultPoints, syncDirectory, writeDurableFile } from '@aviary/service-kit';
import type { ImagesLayout } from './layout.ts';
import type { ProgramRunner } from './program-runner.ts';
import type { ImageStep, ProgressCounter } from './progress.ts';

/** What a step needs from the build around it. */
export interface StepContext {
  layout: ImagesLayout;
  run: ProgramRunner;
  progress: ProgressCounter;
  faults: FaultPoints;
  /** Milliseconds that only grow. */
  elapsed: () => number;
  signal: AbortSignal;
  /** Steps that depend on packages of the day are made again although their inputs are the same. */
  isRefresh: boolean;
}

/** A finished part: its file (absolute, under its final name) and its identity. */
export interface StepOutput {
  id: string;
  path: string;
}

export interface StepPlan {
  step: ImageStep;
  /** What is being made, for people. */
  detail: string;
  /** Everything that the output depends on and that is known before it is made: JSON. */
  inputs: unknown;
  /** True when equal inputs may give a newer output on another day. */
  followsPackages?: boolean;
  /** Makes the output. `workDirectory` is empty and the step's own; it ends with {@link publishFile} or {@link publishDirectory}. */
  build: (workDirectory: string) => Promise<StepOutput>;
}

interface StepRecord {
  formatVersion: 1;
  key: string;
  id: string;
  file: string;
  sizeBytes: number;
}

/** The output of an earlier build from the same inputs, when its file is still as it was; else a new one. */
export async function runStep(context: StepContext, plan: StepPlan): Promise<StepOutput> {
  const { layout, progress, faults, elapsed, signal, isRefresh } = context;
  const { step, detail, inputs, followsPackages = false } = plan;
  const startedAt = elapsed();
  const key = createHash('sha256').update(JSON.stringify(inputs)).digest('hex');
  const recordPath = layout.stepRecord(step);
  if (!(isRefresh && followsPackages)) {
    const known = await findOutput({ recordPath, key, root: layout.root });
    if (known) {
      progress.finished(step, { detail, isCached: true, elapsedMs: elapsed() - startedAt });
      return known;
    }
  }
  signal.throwIfAborted();
  progress.started(step, detail);
  const workDirectory = path.join(layout.temporary, step);
  await rm(workDirectory, { recursive: true, force: true });
  await mkdir(workDirectory, { recursive: true });
  await faults.hit(`images.${step}.before-build`);
  const output = await plan.build(workDirectory);
  await faults.hit(`images.${step}.before-record`);
  const { size } = await stat(output.path);
  const record: StepRecord = {
    formatVersion: 1,
    key,
    id: output.id,
    file: path.relative(layout.root, output.path),
    sizeBytes: size,
  };
  await mkdir(path.dirname(recordPath), { recursive: true });
  await writeDurableFile(recordPath, `${JSON.stringify(record)}\n`, 0o644);
  await rm(workDirectory, { recursive: true, force: true });
  progress.finished(step, { detail, isCached: false, elapsedMs: elapsed() - startedAt });
  return output;
}

async function findOutput(query: { recordPath: string; key: string; root: string }): Promise<StepOutput | undefined> {
  const text = await readFile(query.recordPath, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  const record = text === undefined ? undefined : parseRecord(text);
  if (record?.key !== query.key) return undefined;
  const file = path.join(query.root, record.file);
  const found = await stat(file).catch(() => undefined);
  return found?.isFile() && found.size === record.sizeBytes ? { id: record.id, path: file } : undefined;
}

/** A record that cannot be read counts as none: the step is made again. */
function parseRecord(text: string): StepRecord | undefined {
  try {
    const value = JSON.parse(text) as Partial<StepRecord>;
    const isRecord =
      value.formatVersion === 1 &&
      [value.key, value.id, value.file].every((field) => typeof field === 'string') &&
      typeof value.sizeBytes === 'number';
    return isRecord ? (value as StepRecord) : undefined;
  } catch {
    return undefined;
  }
}

/** Moves a complete file to its final name, durably and readable by every VMM's user. */
export async function publishFile(file: string, target: string): Promise<void> {
  const handle = await open(file, 'r');
  try {
    await handle.chmod(0o644);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await mkdir(path.dirname(target), { recursive: true, mode: 0o755 });
  await rename(file, target);
  await syncDirectory(path.dirname(target));
}

/** Moves a complete directory to its final name, durably. One that is there under that name already is complete, and stays. */
export async function publishDirectory({ run, signal }: StepContext, directory: string, target: string): Promise<void> {
  const known = await stat(target).catch(() => undefined);
  if (known?.isDirectory()) return;
  await run('sync', ['--file-system', directory], { signal });
  await mkdir(path.dirname(target), { recursive: true, mode: 0o755 });
  await rename(directory, target);
  await syncDirectory(path.dirname(target));
}

/** SHA-256 of a file's content, in hex. */
export async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}
