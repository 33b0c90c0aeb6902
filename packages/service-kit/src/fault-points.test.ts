import { glob, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { isFaultName } from './fault-names.ts';
import { FaultPoints } from './fault-points.ts';

test('acts at its name, on its pass, as it is told', async () => {
  const faults = new FaultPoints('pause.before-disk:enospc@2');
  await faults.hit('pause.before-memory');
  await faults.hit('pause.before-disk');
  await expect(faults.hit('pause.before-disk')).rejects.toMatchObject({ code: 'ENOSPC' });
  await faults.hit('pause.before-disk');
  await expect(
    new FaultPoints('operation.after-snapshot_create').hit('operation.after-snapshot_create'),
  ).rejects.toThrow('fault injected at operation.after-snapshot_create');
});

test.each([undefined, ''])('without a setting (%o) nothing happens', async (setting) => {
  await expect(new FaultPoints(setting).hit('create.after-disk')).resolves.toBeUndefined();
});

test.each([
  ['pause.befor-disk', /no fault point pause\.befor-disk; there is pause\.after-commit, /],
  ['operation.before-dance', /no fault point/],
  ['pause.before-disk:explode', /not of the form/],
  ['pause.before-disk@0', /not of the form/],
])('%s fails the start', (setting, message) => {
  expect(() => new FaultPoints(setting)).toThrow(message);
});

test('every point in the sources is in the table, and every name in the table is a point', async () => {
  const root = path.join(import.meta.dirname, '../../..');
  const found = new Set<string>();
  for await (const file of glob('{apps,packages}/*/src/**/*.ts', { cwd: root })) {
    if (file.endsWith('.test.ts')) continue;
    const text = await readFile(path.join(root, file), 'utf8');
    for (const [, name] of text.matchAll(/\.hit\(\s*'([a-z0-9._-]+)'/g)) if (name) found.add(name);
  }
  expect([...found].filter((name) => !isFaultName(name))).toEqual([]);
  const table = await readFile(path.join(import.meta.dirname, 'fault-names.ts'), 'utf8');
  const listed = [...table.matchAll(/^ +'([a-z-]+\.[a-z-]+)',$/gm)].map(([, name]) => name);
  expect(listed.filter((name) => !found.has(name ?? ''))).toEqual([]);
});
