import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { isOpenForWriting } from './open-for-writing.ts';

it('knows whether somebody has a file open for writing', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'writers-'));
  const file = path.join(directory, 'file');
  try {
    await writeFile(file, 'content');
    await using reader = await open(file, 'r');
    expect(isOpenForWriting(reader.fd)).toBe(false);
    const writer = await open(file, 'r+');
    expect(isOpenForWriting(reader.fd)).toBe(true);
    await writer.close();
    await using other = await open(file, 'r');
    expect(isOpenForWriting(reader.fd)).toBe(false);
    expect(isOpenForWriting(other.fd)).toBe(false);
  } finally {
    await rm(directory, { recursive: true });
  }
});
