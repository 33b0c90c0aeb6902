import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { lockDirectory } from './directory-lock.ts';

let parent: string;
let directory: string;
let owner: ChildProcess | undefined;

beforeEach(async () => {
  parent = await mkdtemp(path.join(tmpdir(), 'aviary-database-'));
  directory = path.join(parent, 'store');
});

afterEach(async () => {
  owner?.kill('SIGKILL');
  await rm(parent, { recursive: true });
});

/** Another process that has the directory until it is killed. */
async function startOwner(): Promise<ChildProcess> {
  const script = `
    const { lockDirectory } = await import(${JSON.stringify(path.join(import.meta.dirname, 'directory-lock.ts'))});
    globalThis.lock = await lockDirectory(${JSON.stringify(directory)}, { timeoutMs: 0 });
    console.log('held');
    setInterval(() => {}, 1000);`;
  const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
  const child = spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  owner = child;
  return child;
}

test('the owner is named to others, and the next one has the directory as soon as the owner was killed', async () => {
  const { pid } = await startOwner();
  await expect(lockDirectory(directory, { timeoutMs: 0 })).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining(`${directory} is in use by process ${pid}; stop that one first`),
    details: { pid },
  });
  const next = lockDirectory(directory, { timeoutMs: 60_000 });
  owner?.kill('SIGKILL');
  using _lock = await next;
  await expect(lockDirectory(directory, { timeoutMs: 0 })).rejects.toMatchObject({ code: 'conflict' });
});

test('of many that find what another left, one gets the directory', async () => {
  await writeFile(`${directory}.lock`, '');
  const asked = await Promise.allSettled(Array.from({ length: 8 }, () => lockDirectory(directory, { timeoutMs: 0 })));
  const taken = asked.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  expect(taken).toHaveLength(1);
  for (const lock of taken) lock[Symbol.dispose]();
});
