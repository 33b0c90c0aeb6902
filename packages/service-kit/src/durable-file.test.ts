import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeDurableFile } from './durable-file.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'aviary-durable-'));
});
afterEach(() => rm(directory, { recursive: true }));

describe('writeDurableFile', () => {
  it('replaces the content, with the mode asked for, and leaves nothing beside it', async () => {
    const file = path.join(directory, 'state');
    await writeFile(file, 'old', { mode: 0o666 });
    await writeDurableFile(file, 'new');
    expect(await readFile(file, 'utf8')).toBe('new');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await writeDurableFile(file, Uint8Array.of(1, 2), 0o640);
    expect([...(await readFile(file))]).toEqual([1, 2]);
    expect((await stat(file)).mode & 0o777).toBe(0o640);
    expect(await readdir(directory)).toEqual(['state']);
  });

  it('leaves the old content and no draft when it cannot', async () => {
    const taken = path.join(directory, 'taken');
    await writeDurableFile(path.join(directory, 'other'), 'old');
    await mkdir(path.join(taken, 'full'), { recursive: true });
    await expect(writeDurableFile(taken, 'new')).rejects.toThrow();
    await expect(writeDurableFile(path.join(directory, 'absent', 'file'), 'new')).rejects.toMatchObject({
      code: 'ENOENT',
    });
    expect((await readdir(directory)).toSorted()).toEqual(['other', 'taken']);
  });

  it('ends whole when several write at once', async () => {
    const file = path.join(directory, 'state');
    const contents = Array.from({ length: 8 }, (_, index) => String(index).repeat(10_000));
    await Promise.all(contents.map((content) => writeDurableFile(file, content)));
    expect(contents).toContain(await readFile(file, 'utf8'));
    expect(await readdir(directory)).toEqual(['state']);
  });
});
