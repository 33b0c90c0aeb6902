import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { runProgram } from '@aviary/service-kit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readAnnouncedUrl, takePlatformLock } from './platform-lock.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-lock-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

describe('platform lock', () => {
  it('refuses a second holder and says who the first is, by whatever path', async () => {
    const other = `${directory}-link`;
    await symlink(directory, other);
    try {
      await using lock = await takePlatformLock(directory);
      await lock.announce('http://127.0.0.1:7070');
      expect(readAnnouncedUrl(other)).toBe('http://127.0.0.1:7070');
      await expect(takePlatformLock(other)).rejects.toMatchObject({
        code: 'already_exists',
        message: expect.stringContaining(`as process ${process.pid}, its API is http://127.0.0.1:7070`),
        details: { pid: process.pid, api_url: 'http://127.0.0.1:7070' },
      });
    } finally {
      await rm(other);
    }
  });

  it('goes to exactly one of many that ask at once', async () => {
    const asked = await Promise.allSettled(Array.from({ length: 8 }, () => takePlatformLock(directory)));
    const taken = asked.filter((one) => one.status === 'fulfilled');
    expect(taken).toHaveLength(1);
    for (const { value } of taken) await value[Symbol.asyncDispose]();
  });

  it('is free again when given back, or when its holder was killed', async () => {
    const first = await takePlatformLock(directory);
    expect(first.isAfterCrash).toBe(false);
    await first[Symbol.asyncDispose]();
    expect(readAnnouncedUrl(directory)).toBeUndefined();
    const module = path.join(import.meta.dirname, 'platform-lock.ts');
    const script = `
      const { takePlatformLock } = await import(${JSON.stringify(module)});
      await (await takePlatformLock(${JSON.stringify(directory)})).announce('http://x');
      process.kill(process.pid, 'SIGKILL');`;
    await runProgram(process.execPath, ['--input-type=module', '-e', script], { okExitCodes: [-1] });
    await using second = await takePlatformLock(directory);
    expect(second.isAfterCrash).toBe(true);
    await second[Symbol.asyncDispose]();
    await using third = await takePlatformLock(directory);
    expect(third.isAfterCrash).toBe(true);
  });

  it('does not mind a note that was cut short', async () => {
    await writeFile(path.join(directory, 'up.json'), '{"pid":');
    await using lock = await takePlatformLock(directory);
    expect(lock.isAfterCrash).toBe(false);
  });
});
