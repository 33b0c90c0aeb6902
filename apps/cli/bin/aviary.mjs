#!/usr/bin/env node
// Plain JavaScript for any Node: the program itself is TypeScript, which the Node pinned in this repository runs.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runNode } from './run-node.mjs';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const pinnedNode = fileURLToPath(new URL('../../../node_modules/node/bin/node', import.meta.url));

if (Number(process.versions.node.split('.')[0]) >= 24) {
  await import(main);
} else if (existsSync(pinnedNode)) {
  runNode(pinnedNode, [main, ...process.argv.slice(2)]);
} else {
  console.error(
    `aviary: needs Node 24, this is ${process.version}; run 'npm install' in the checkout, which brings it`,
  );
  process.exitCode = 1;
}
