import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FileLock } from './file-lock.ts';

let directory: string;
let file: string;
let children: ChildProcess[];

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-lock-'));
  file = path.join(directory, 'lock');
  children = [];
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(directory, { recursive: true });
});

/** A process that tries for the lock once it is told to, says whether it got it, and keeps it until it dies. */
function contender(): ChildProcess {
  const module = JSON.stringify(path.join(import.meta.dirname, 'file-lock.ts'));
  const script = `
    const { FileLock } = await import(${module});
    console.log('ready');
    process.stdin.once('data', () => {
      globalThis.lock = FileLock.tryAcquire(${JSON.stringify(file)});
      console.log(globalThis.lock ? 'taken' : 'refused');
    });`;
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  children.push(child);
  return child;
}

const nextLine = (child: ChildProcess): Promise<string> =>
  new Promise((resolve) => child.stdout?.once('data', (text: Buffer) => resolve(text.toString().trim())));

test('of processes that race for it one gets it, and when that one is killed the next does', async () => {
  const racing = Array.from({ length: 3 }, contender);
  await Promise.all(racing.map(nextLine));
  const answers = racing.map(nextLine);
  for (const child of racing) child.stdin?.write('go');
  const outcomes = await Promise.all(answers);
  expect(outcomes.toSorted()).toEqual(['refused', 'refused', 'taken']);
  const owner = racing[outcomes.indexOf('taken')];
  expect(FileLock.tryAcquire(file)).toBeUndefined();
  expect(FileLock.readNote(file)?.pid).toBe(owner?.pid);
  const waited = FileLock.acquire(file, { timeoutMs: Infinity, onWait: () => owner?.kill('SIGKILL') });
  using _lock = await waited;
  expect(FileLock.readNote(file)?.pid).toBe(process.pid);
});

test('is waited for as long as asked, and not when the waiting is aborted', async () => {
  using held = FileLock.tryAcquire(file, { what: 'a test' });
  expect(FileLock.readNote(file)).toEqual({ pid: process.pid, what: 'a test' });
  expect(await FileLock.acquire(file, { timeoutMs: 0 })).toBeUndefined();
  const abort = new AbortController();
  const waiting = FileLock.acquire(file, {
    timeoutMs: Infinity,
    signal: abort.signal,
    onWait: () => abort.abort(new Error('enough')),
  });
  await expect(waiting).rejects.toThrow('enough');
  held?.release();
  using again = FileLock.tryAcquire(file);
  expect(again).toBeDefined();
});

test('is not a child’s: a program started by the holder does not keep it', () => {
  const held = FileLock.tryAcquire(file);
  children.push(spawn('sleep', ['1000']));
  held?.release();
  using again = FileLock.tryAcquire(file);
  expect(again).toBeDefined();
});

test('takes over a file with anything in it, and tells nothing that is not whole', async () => {
  await writeFile(file, '123 4567');
  expect(FileLock.readNote(file)).toBeUndefined();
  using lock = FileLock.tryAcquire(file);
  expect(lock).toBeDefined();
  expect(FileLock.readNote(file)).toEqual({ pid: process.pid });
});
