export { dumpSchema } from './dump-schema.ts';
export { isUniqueViolation, postgresErrorCode } from './from-postgres-error.ts';
export { type MigrationSource, migrate } from './migrate.ts';
export type { NoticeListener } from './notices.ts';
export { type Database, type DatabaseOptions, openDatabase } from './open-database.ts';
export { ReusableStores } from './reusable-stores.ts';
export { makeStoreTemplate, storeTemplateKey } from './store-template.ts';
export type * from './tables.ts';
export type { UnitOfWork } from './unit-of-work.ts';
