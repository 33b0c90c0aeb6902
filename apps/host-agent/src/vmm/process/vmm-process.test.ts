import { appendFile, mkdtemp, open, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { boundLog } from './vmm-process.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'vmm-log-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

it('cuts a long log down to its end, and its writer goes on after that', async () => {
  const file = path.join(directory, 'vmm.log');
  await using writer = await open(file, 'a');
  await writer.write(`${'old line\n'.repeat(2_000)}the last line\n`);
  await boundLog(file, 10_000);
  await writer.write('a new line\n');
  const text = await readFile(file, 'utf8');
  expect(text.length).toBeLessThan(5_000);
  expect(text.endsWith('old line\nthe last line\na new line\n')).toBe(true);
});

it('leaves a short log, a missing one and a link alone', async () => {
  const [file, other] = [path.join(directory, 'vmm.log'), path.join(directory, 'other')];
  await writeFile(file, 'short\n');
  await boundLog(file, 10_000);
  expect(await readFile(file, 'utf8')).toBe('short\n');
  await boundLog(path.join(directory, 'none'), 10);
  await appendFile(other, 'not a log of ours');
  await symlink(other, path.join(directory, 'link'));
  await expect(boundLog(path.join(directory, 'link'), 10)).rejects.toMatchObject({ code: 'ELOOP' });
  expect(await readFile(other, 'utf8')).toBe('not a log of ours');
});
