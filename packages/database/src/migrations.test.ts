import { expect, test } from 'vitest';
import { readCoreMigrations } from './migrate.ts';
import { splitStatements } from './split-statements.ts';

/** What fails the writes or reads of a process that still runs the version before. */
const contracting = [
  /\bDROP\s+(TABLE|COLUMN)\b/i,
  /\bRENAME\b/i,
  /\bSET\s+NOT\s+NULL\b/i,
  /\bALTER\s+COLUMN\s+\S+\s+(SET\s+DATA\s+)?TYPE\b/i,
  /\bADD\s+COLUMN\b(?=[^,]*\bNOT\s+NULL\b)(?![^,]*\bDEFAULT\b)/i,
];

const isContracting = (statement: string) => {
  const withoutComments = statement.replaceAll(/--[^\n]*/g, '');
  return contracting.some((pattern) => pattern.test(withoutComments));
};

test.each([
  ['ALTER TABLE a ADD COLUMN b text', false],
  ["ALTER TABLE a ADD COLUMN b text NOT NULL DEFAULT ''", false],
  ['ALTER TABLE a ADD COLUMN b text NOT NULL', true],
  ["ALTER TABLE a ADD COLUMN b text NOT NULL, ADD COLUMN c text DEFAULT ''", true],
  ['ALTER TABLE a ALTER COLUMN b SET NOT NULL', true],
  ['ALTER TABLE a ALTER COLUMN b TYPE bigint', true],
  ['ALTER TABLE a RENAME COLUMN b TO c', true],
  ['ALTER TABLE a DROP COLUMN b', true],
  ['DROP TABLE a', true],
  ['-- DROP TABLE a\nALTER TABLE a ADD COLUMN b text', false],
])('%s contracts: %s', (statement, expected) => {
  expect(isContracting(statement)).toBe(expected);
});

test('a store is contracted only by files that say so, when no version that runs needs what they take away', async () => {
  const wrong = (await readCoreMigrations())
    .filter(({ name }) => !/^\d{4}_contract_/.test(name))
    .flatMap(({ name, content }) =>
      splitStatements(content)
        .filter(isContracting)
        .map((statement) => `${name}: ${statement}`),
    );
  expect(wrong).toEqual([]);
});
