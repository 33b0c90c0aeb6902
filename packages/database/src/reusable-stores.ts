import { must } from '@aviary/core';
import type { PGlite } from '@electric-sql/pglite';
import { type Database, embeddedDatabase } from './open-database.ts';
import { closePglite, openPglite } from './pglite-dialect.ts';

/**
 * Stores in memory for tests that follow each other: opening one takes half a second of processor time, emptying it a
 * fiftieth of that. Each handle begins with what is in the template, and is good for nothing once it is disposed.
 */
export class ReusableStores {
  readonly #template: Blob;
  readonly #idle: PGlite[] = [];

  constructor(template: Blob) {
    this.#template = template;
  }

  async open(): Promise<Database> {
    const pglite = this.#idle.pop() ?? (await this.#load());
    const schema = await readSchema(pglite);
    return embeddedDatabase(pglite, async (isBusy) => {
      if (pglite.closed) return;
      // Whoever still works on it must meet no store of the next test, and its changes to the schema would stay.
      if (isBusy || (await readSchema(pglite)) !== schema) return await closePglite(pglite);
      await restoreRows(pglite);
      this.#idle.push(pglite);
    });
  }

  async #load(): Promise<PGlite> {
    const pglite = await openPglite({ template: this.#template });
    await keepRows(pglite);
    return pglite;
  }
}

const tablesOf = `FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migrations'`;

async function readSchema(pglite: PGlite): Promise<string> {
  const { rows } = await pglite.query<{ schema: string }>(
    `SELECT (SELECT string_agg(tablename, ' ' ORDER BY tablename) ${tablesOf}) || ': '
      || (SELECT string_agg(owner || name, ' ' ORDER BY owner, name) FROM schema_migrations) AS schema`,
  );
  return must(rows[0], 'a query without a table answers one row').schema;
}

/** Rows that migrations have made, for {@link restoreRows}. */
const keepRows = (pglite: PGlite) =>
  pglite.exec(`
    CREATE SCHEMA kept;
    DO $$
    DECLARE name text;
    BEGIN
      FOR name IN SELECT tablename ${tablesOf} LOOP
        EXECUTE format('CREATE TABLE kept.%I AS SELECT * FROM public.%I', name, name);
      END LOOP;
    END $$;`);

/** Without triggers and foreign keys: one of them keeps the audit log from being emptied, and the order of tables does not matter. */
const restoreRows = (pglite: PGlite) =>
  pglite.exec(`
    UNLISTEN *;
    RESET ALL;
    SET session_replication_role = replica;
    DO $$
    DECLARE name text;
    BEGIN
      FOR name IN SELECT tablename ${tablesOf} LOOP
        EXECUTE format('DELETE FROM public.%I', name);
        EXECUTE format('INSERT INTO public.%I OVERRIDING SYSTEM VALUE SELECT * FROM kept.%I', name, name);
      END LOOP;
      FOR name IN SELECT sequencename FROM pg_sequences LOOP EXECUTE format('ALTER SEQUENCE %I RESTART', name); END LOOP;
    END $$;
    RESET session_replication_role;`);
