import { existsSync, openAsBlob } from 'node:fs';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type Database, makeStoreTemplate, ReusableStores, storeTemplateKey } from '@aviary/database';
import { FileLock } from '@aviary/linux/file-lock';

const cacheDirectory = path.resolve(import.meta.dirname, '../../../.cache/pglite');
let stores: Promise<ReusableStores> | undefined;

/** An embedded store in memory with the newest schema and nothing in it, for tests. */
export async function openTestDatabase(): Promise<Database> {
  stores ??= loadTemplate().then((template) => new ReusableStores(template));
  return await (await stores).open();
}

/** The first test that needs it makes it, for all others and later runs; test files run in processes of their own. */
async function loadTemplate(): Promise<Blob> {
  const name = `${await storeTemplateKey()}.tar`;
  const file = path.join(cacheDirectory, name);
  if (existsSync(file)) return await openAsBlob(file);
  await mkdir(cacheDirectory, { recursive: true });
  using _lock = await FileLock.acquire(path.join(cacheDirectory, 'lock'), { timeoutMs: Infinity });
  if (!existsSync(file)) {
    const made = await makeStoreTemplate();
    await writeFile(`${file}.new`, Buffer.from(await made.arrayBuffer()));
    await rename(`${file}.new`, file);
    // Of other schemas; a test run of another checkout has a cache of its own.
    for (const other of await readdir(cacheDirectory))
      if (other.endsWith('.tar') && other !== name) await rm(path.join(cacheDirectory, other), { force: true });
  }
  return await openAsBlob(file);
}
