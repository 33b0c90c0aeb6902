import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { migrate, readCoreMigrations } from './migrate.ts';
import { kyselyOn, openPglite } from './pglite-dialect.ts';

/** Names what {@link makeStoreTemplate} makes: it changes with the migrations and with PGlite. */
export async function storeTemplateKey(): Promise<string> {
  const entry = createRequire(import.meta.url).resolve('@electric-sql/pglite');
  const manifest = await readFile(path.join(path.dirname(entry), '../package.json'), 'utf8');
  const { version } = JSON.parse(manifest) as { version: string };
  const migrations = (await readCoreMigrations()).map(({ name, checksum }) => [name, checksum]);
  return createHash('sha256')
    .update(JSON.stringify([version, migrations]))
    .digest('hex')
    .slice(0, 20);
}

/** An empty store with the newest schema, to start PGlite from: making one takes seconds of processor time, loading it a tenth of that. */
export async function makeStoreTemplate(): Promise<Blob> {
  const pglite = await openPglite({});
  try {
    await migrate({ db: kyselyOn(pglite) });
    return await pglite.dumpDataDir('none');
  } finally {
    await pglite.close();
  }
}
