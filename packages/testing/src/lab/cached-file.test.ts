import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cachedFile } from './cached-file.ts';

let directory: string;
let builds: number;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-cached-'));
  builds = 0;
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const cached = (inputs: unknown, name = 'root') =>
  cachedFile({
    ...{ directory, name, inputs },
    build: async ({ file, work }) => {
      builds++;
      await writeFile(path.join(work, 'scratch'), '');
      await writeFile(file, JSON.stringify(inputs));
    },
  });

test('equal inputs are built once', async () => {
  const first = await cached([1]);
  expect(await cached([1])).toBe(first);
  expect(builds).toBe(1);
  expect(await readFile(first, 'utf8')).toBe('[1]');
});

test('other inputs take the place of the former, and of no other name', async () => {
  await cached([1]);
  const other = await cached([1], 'data');
  const second = await cached([2]);
  expect((await readdir(directory)).sort()).toEqual([path.basename(other), path.basename(second)].sort());
});

test('a build that fails leaves nothing', async () => {
  const failing = cachedFile({
    ...{ directory, name: 'root', inputs: [] },
    build: async ({ file }) => {
      await writeFile(file, 'half');
      throw new Error('no space');
    },
  });
  await expect(failing).rejects.toThrow('no space');
  expect(await readdir(directory)).toEqual([]);
});
