// Writes schema.sql from the migrations, or with --check fails when the committed one differs.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { dumpSchema } from './dump-schema.ts';
import { migrate } from './migrate.ts';
import { openDatabase } from './open-database.ts';

const file = path.join(import.meta.dirname, '../schema.sql');
await using database = await openDatabase({});
await migrate(database);
const schema = await dumpSchema(database);
if (process.argv.includes('--check')) {
  if (schema !== (await readFile(file, 'utf8'))) {
    console.error('schema.sql differs from the migrations: run npm run generate -w @aviary/database');
    process.exitCode = 1;
  }
} else await writeFile(file, schema);
