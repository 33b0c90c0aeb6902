import { sql } from 'kysely';
import type { Database } from './open-database.ts';

/**
 * The schema as text, one line a fact, the same on both stores: columns, constraints, indexes. Made from the catalogue,
 * so that it needs no pg_dump and tells what the database really has.
 */
export async function dumpSchema({ db }: Pick<Database, 'db'>): Promise<string> {
  const columns = await sql<{ table: string; line: string }>`
    SELECT c.relname AS "table",
           a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
             || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
             || CASE WHEN a.attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY' ELSE '' END
             || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '') AS line
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
    ORDER BY c.relname, a.attnum`.execute(db);
  // Not-null constraints have rows of their own from PostgreSQL 18 on; the column's line already says it.
  const constraints = await sql<{ table: string; line: string }>`
    SELECT c.relname AS "table", 'CONSTRAINT ' || k.conname || ' ' || pg_get_constraintdef(k.oid) AS line
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE c.relnamespace = 'public'::regnamespace AND k.contype <> 'n'
    ORDER BY c.relname, k.conname`.execute(db);
  const indexes = await sql<{ table: string; line: string }>`
    SELECT i.tablename AS "table", i.indexdef AS line
    FROM pg_indexes i
    WHERE i.schemaname = 'public'
      AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conname = i.indexname)
    ORDER BY i.tablename, i.indexname`.execute(db);
  const tables = [...new Set(columns.rows.map((row) => row.table))].sort();
  const linesOf = (rows: { table: string; line: string }[], table: string) =>
    rows.filter((row) => row.table === table).map((row) => row.line);
  return tables
    .map((table) => {
      const parts = [...linesOf(columns.rows, table), ...linesOf(constraints.rows, table)];
      const created = `CREATE TABLE ${table} (\n${parts.map((line) => `  ${line}`).join(',\n')}\n);\n`;
      return (
        created +
        linesOf(indexes.rows, table)
          .map((line) => `${line};\n`)
          .join('')
      );
    })
    .join('\n');
}
