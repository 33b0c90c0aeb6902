// Writes the OpenAPI documents from the route table, or with --check fails when a committed one differs.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stringify } from 'yaml';
import { buildOpenapi } from './openapi.ts';

const documents = { 'openapi.yaml': 'users', 'openapi-hosts.yaml': 'hosts' } as const;

for (const [name, audience] of Object.entries(documents)) {
  const file = path.join(import.meta.dirname, '..', name);
  const document = stringify(buildOpenapi(audience), { aliasDuplicateObjects: false, lineWidth: 120 });
  if (!process.argv.includes('--check')) await writeFile(file, document);
  else if (document !== (await readFile(file, 'utf8'))) {
    console.error(`${name} differs from the route table: run npm run generate -w @aviary/api-contract`);
    process.exitCode = 1;
  }
}
