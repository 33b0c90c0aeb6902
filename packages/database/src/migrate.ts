import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { CompiledQuery, type Kysely, sql } from 'kysely';
import type { Database } from './open-database.ts';
import { splitStatements } from './split-statements.ts';
import type { Tables } from './tables.ts';

export interface MigrationSource {
  /** Whose migrations these are: each source is numbered for itself. */
  owner: string;
  directory: string;
}

const coreMigrations: MigrationSource = { owner: 'core', directory: path.join(import.meta.dirname, '../migrations') };
const filePattern = /^\d{4}_[a-z0-9_]+\.sql$/;

interface Migration {
  owner: string;
  name: string;
  content: string;
  checksum: string;
}

/**
 * Brings the store to the newest schema, all new files and their records in one transaction. Replicas that start together take
 * turns by an advisory lock. Throws `integrity` when a file that was applied has changed since.
 * Resolves with the names applied now.
 */
export async function migrate(
  database: Pick<Database, 'db'>,
  extensions: readonly MigrationSource[] = [],
): Promise<string[]> {
  const migrations = (await Promise.all([coreMigrations, ...extensions].map(readSource))).flat();
  const applied: string[] = [];
  await database.db.transaction().execute(async (transaction) => {
    await sql`SELECT pg_advisory_xact_lock(hashtext('aviary:migrate'))`.execute(transaction);
    await sql`CREATE TABLE IF NOT EXISTS schema_migrations (
      owner text NOT NULL,
      name text NOT NULL,
      checksum text NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (owner, name)
    )`.execute(transaction);
    const { rows } = await sql<Omit<Migration, 'content'>>`SELECT owner, name, checksum FROM schema_migrations`.execute(
      transaction,
    );
    const checksums = new Map(rows.map((row) => [`${row.owner}/${row.name}`, row.checksum]));
    for (const migration of migrations) {
      const id = `${migration.owner}/${migration.name}`;
      const known = checksums.get(id);
      if (known === undefined) {
        await apply(transaction, migration);
        applied.push(id);
      } else if (known !== migration.checksum) {
        throw new AppError('integrity', `migration ${id} was applied with other content; write a new file instead`);
      }
    }
  });
  return applied;
}

/** This package's own migrations, in their order. */
export const readCoreMigrations = () => readSource(coreMigrations);

async function readSource({ owner, directory }: MigrationSource): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.sql')).sort();
  return Promise.all(
    names.map(async (name) => {
      if (!filePattern.test(name))
        throw new AppError('integrity', `migration ${name} must be named NNNN_verb_object.sql`);
      const content = await readFile(path.join(directory, name), 'utf8');
      return { owner, name, content, checksum: createHash('sha256').update(content).digest('hex') };
    }),
  );
}

async function apply(db: Kysely<Tables>, migration: Migration): Promise<void> {
  for (const statement of splitStatements(migration.content)) await db.executeQuery(CompiledQuery.raw(statement));
  const { owner, name, checksum } = migration;
  await sql`INSERT INTO schema_migrations (owner, name, checksum) VALUES (${owner}, ${name}, ${checksum})`.execute(db);
}
