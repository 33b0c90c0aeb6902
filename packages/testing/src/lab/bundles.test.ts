import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { runProgram } from '@aviary/service-kit';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { writeBundles } from './bundles.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'aviary-bundles-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

test('a bundle takes the place of its source, and its modules find what lies beside theirs', async () => {
  const repository = path.join(root, 'repository');
  await mkdir(path.join(repository, 'app'), { recursive: true });
  await mkdir(path.join(repository, 'library'));
  await writeFile(path.join(repository, 'package.json'), '{ "type": "module" }');
  await writeFile(path.join(repository, 'library/place.ts'), 'export const place: string = import.meta.dirname;\n');
  const main =
    "import { place } from '../library/place.ts';\nconsole.log(place, import.meta.url, 'import.meta.url');\n";
  await writeFile(path.join(repository, 'app/main.ts'), main);
  const target = path.join(root, 'bundles');
  await writeBundles({ root: repository, entries: ['app/main.ts'], inside: '/inside', target });
  await rm(path.join(repository, 'library'), { recursive: true });
  await cp(target, repository, { recursive: true });
  const { stdout } = await runProgram(process.execPath, [path.join(repository, 'app/main.ts')]);
  expect(stdout).toBe('/inside/library file:///inside/app/main.ts import.meta.url\n');
});
