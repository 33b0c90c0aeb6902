import { type Database, migrate, openDatabase } from '@aviary/database';
import { afterAll, afterEach, beforeAll, describe } from 'vitest';
import { openTestDatabase } from './test-database.ts';
import { startTestPostgres, type TestPostgres } from './test-postgres.ts';

/** Opens an empty store with the newest schema, closed after the test. */
export type OpenStore = () => Promise<Database>;

/** The same tests on PostgreSQL and on PGlite. `open` gives each test a store of its own. */
export function describeStores(title: string, define: (open: OpenStore, kind: Database['kind']) => void): void {
  describe(`${title} on PGlite`, () => define(storeOpener({}), 'pglite'));
  describe(`${title} on PostgreSQL`, () => {
    let server: TestPostgres;
    beforeAll(async () => {
      server = await startTestPostgres();
    });
    afterAll(() => server[Symbol.asyncDispose]());
    define(storeOpener({ createUrl: () => server.createDatabase() }), 'postgres');
  });
}

function storeOpener({ createUrl }: { createUrl?: () => Promise<string> }): OpenStore {
  const opened: Database[] = [];
  afterEach(async () => {
    for (const database of opened.splice(0).reverse()) await database[Symbol.asyncDispose]();
  });
  return async () => {
    const database = createUrl
      ? await openDatabase({ url: await createUrl(), poolSize: 20 })
      : await openTestDatabase();
    opened.push(database);
    await migrate(database);
    return database;
  };
}
