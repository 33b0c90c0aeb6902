import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dataExtents, punchHole } from './file-extents.ts';

describe('sparse files', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'extents-'));
  });
  afterEach(() => rm(directory, { recursive: true }));

  it('lists the written ranges and nothing else, and forgets a punched one', async () => {
    const mib = 1024 * 1024;
    const file = await open(path.join(directory, 'sparse'), 'w+');
    try {
      await file.truncate(64 * mib);
      expect([...dataExtents(file.fd, 64 * mib)]).toEqual([]);
      await file.write(Buffer.alloc(mib, 1), 0, mib, 8 * mib);
      await file.write(Buffer.alloc(mib, 2), 0, mib, 63 * mib);
      await file.sync();
      expect([...dataExtents(file.fd, 64 * mib)]).toEqual([
        { offset: 8 * mib, length: mib },
        { offset: 63 * mib, length: mib },
      ]);
      expect(punchHole(file.fd, { offset: 8 * mib, length: mib })).toBe(true);
      expect([...dataExtents(file.fd, 64 * mib)]).toEqual([{ offset: 63 * mib, length: mib }]);
      expect((await file.stat()).size).toBe(64 * mib);
    } finally {
      await file.close();
    }
  });

  it('names the kernel error for a bad descriptor', () => {
    expect(() => [...dataExtents(1_000_000, 4096)]).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => punchHole(1_000_000, { offset: 0, length: 4096 })).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });
});
