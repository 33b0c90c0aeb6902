#!/usr/bin/env node
// Plain JavaScript for any Node: the program itself is TypeScript, which the Node pinned in this repository runs.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const pinnedNode = fileURLToPath(new URL('../../../node_modules/node/bin/node', import.meta.url));

if (Number(process.versions.node.split('.')[0]) >= 24) {
  await import(main);
} else if (existsSync(pinnedNode)) {
  // A signal from the terminal reaches both; the child decides when to end.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined);
  const { status, signal, error } = spawnSync(pinnedNode, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
  if (error) console.error(`aviary: cannot start ${pinnedNode}: ${error.message}`);
  process.exitCode = status ?? (signal === 'SIGINT' ? 130 : signal === 'SIGTERM' ? 143 : 1);
} else {
  console.error(
    `aviary: needs Node 24, this is ${process.version}; run 'npm install' in the checkout, which brings it`,
  );
  process.exitCode = 1;
}
