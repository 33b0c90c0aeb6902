import { readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';

interface Column {
  isNullable: boolean;
  hasDefault: boolean;
  kind: string;
}
type Schema = Record<string, Record<string, Column>>;

const kinds: Record<string, string> = {
  'timestamp with time zone': 'time',
  bigint: 'number',
  boolean: 'boolean',
  integer: 'number',
  jsonb: 'json',
  text: 'text',
  uuid: 'text',
};

/** The columns that `schema.sql` has, by table. */
function readSchema(): Schema {
  const text = readFileSync(path.join(import.meta.dirname, '../schema.sql'), 'utf8');
  const tables = [...text.matchAll(/^CREATE TABLE (\w+) \(\n([\s\S]*?)\n\);/gm)];
  return Object.fromEntries(
    tables.map(([, table = '', body = '']) => {
      const lines = body.split('\n').filter((line) => !line.trim().startsWith('CONSTRAINT'));
      const columns = lines.map((line) => {
        const [, name = '', type = '', rest = ''] =
          /^ {2}(\w+) (timestamp with time zone|\w+)(.*?),?$/.exec(line) ?? [];
        const isNullable = !rest.includes('NOT NULL');
        return [name, { isNullable, hasDefault: / DEFAULT | GENERATED /.test(rest), kind: kinds[type] ?? type }];
      });
      return [table, Object.fromEntries(columns)];
    }),
  );
}

/** The columns that `tables.ts` declares, by table. */
function readTables(): Schema {
  const file = path.join(import.meta.dirname, 'tables.ts');
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true);
  const members = new Map<string, ts.PropertySignature[]>();
  for (const statement of source.statements)
    if (ts.isInterfaceDeclaration(statement))
      members.set(statement.name.text, statement.members.filter(ts.isPropertySignature));
  const tables = (members.get('Tables') ?? []).map((member) => [member.name.getText(), member.type?.getText() ?? '']);
  return Object.fromEntries(
    tables.map(([table, name = '']) => [
      table,
      Object.fromEntries((members.get(name) ?? []).map((column) => [column.name.getText(), readColumn(column)])),
    ]),
  );
}

function readColumn(column: ts.PropertySignature): Column {
  const type = (column.type?.getText() ?? '').replaceAll(/\s+/g, ' ');
  const isNullable = /\| null/.test(type) || type === 'NullableTimestamp';
  const hasDefault = /^(Generated|Timestamp|Json)\b/.test(type);
  return { isNullable, hasDefault, kind: kindOf(type) };
}

function kindOf(type: string): string {
  if (/Timestamp|\bDate\b/.test(type)) return 'time';
  if (/^((Required)?Json|ColumnType)</.test(type)) return 'json';
  if (/\bnumber\b/.test(type)) return 'number';
  if (/\bboolean\b/.test(type)) return 'boolean';
  return 'text';
}

test('the types of the tables are what schema.sql says', () => {
  const { schema_migrations, ...schema } = readSchema();
  expect(schema_migrations).toBeDefined();
  const tables = readTables();
  expect(Object.keys(tables).sort()).toEqual(Object.keys(schema).sort());
  for (const [table, columns] of Object.entries(schema)) {
    const declared = tables[table] ?? {};
    expect([table, Object.keys(declared).sort()]).toEqual([table, Object.keys(columns).sort()]);
    for (const [name, { isNullable, hasDefault, kind }] of Object.entries(columns)) {
      const column = declared[name];
      expect([table, name, column?.isNullable, column?.kind]).toEqual([table, name, isNullable, kind]);
      // What may be left out of an insert must have a default; the other way round it is only asked for more.
      if (column?.hasDefault && !isNullable) expect([table, name, hasDefault]).toEqual([table, name, true]);
    }
  }
});
