// Writes openapi.yaml from the route table, or with --check fails when the committed one differs.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stringify } from 'yaml';
import { buildOpenapi } from './openapi.ts';

const file = path.join(import.meta.dirname, '../openapi.yaml');
const document = stringify(buildOpenapi(), { aliasDuplicateObjects: false, lineWidth: 120 });
if (process.argv.includes('--check')) {
  if (document !== (await readFile(file, 'utf8'))) {
    console.error('openapi.yaml differs from the route table: run npm run generate -w @aviary/api-contract');
    process.exitCode = 1;
  }
} else await writeFile(file, document);
