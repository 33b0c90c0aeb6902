import { existsSync } from 'node:fs';
import path from 'node:path';
import { defineConfig } from 'vitest/config';

// One project after the other: together they would fight for the processors that the guests emulate theirs on.
// A file's suffix says what it needs: x.test.ts nothing, x.pg.test.ts PostgreSQL, x.vm.test.ts root and QEMU, x.lab.test.ts the
// machine with KVM that `npm run lab` starts and runs them in.
const roots = ['apps/*/src', 'packages/*/src', 'examples/*/src', 'scripts'];
// Waiting for a process to start takes seconds on a busy machine; a condition that comes true ends the wait at once.
const expectOptions = { poll: { timeout: 15_000 } };
const files = (suffix: string) => roots.map((root) => `${root}/**/*${suffix}`);

/** The files of the tests with microVMs: none, with the reason said, where they cannot run. REQUIRE_VM=1 makes that a failure. */
function vmFiles(): string[] {
  const hasQemu = (process.env['PATH'] ?? '')
    .split(':')
    .some((dir) => existsSync(path.join(dir, 'qemu-system-x86_64')));
  const missing = [...(process.getuid?.() === 0 ? [] : ['root']), ...(hasQemu ? [] : ['the package qemu-system-x86'])];
  if (missing.length === 0) return files('.vm.test.ts');
  const reason = `tests with microVMs need ${missing.join(' and ')}`;
  if (process.env['REQUIRE_VM'] === '1') throw new Error(`${reason}, and REQUIRE_VM=1 forbids leaving them out`);
  console.warn(`skipped: ${reason}`);
  return [];
}

export default defineConfig({
  test: {
    // The embedded database; see start-platform.ts.
    execArgv: ['--no-memory-protection-keys'],
    projects: [
      {
        test: {
          expect: expectOptions,
          name: 'unit',
          include: files('.test.ts'),
          exclude: ['**/node_modules/**', '**/*.{pg,redis,vm,lab}.test.ts'],
          // Loading the same modules for each file anew is half of the time; no test changes what another one imports.
          isolate: false,
          testTimeout: 20_000,
          sequence: { groupOrder: 0 },
          // An embedded database takes seconds to start on a busy machine.
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          expect: expectOptions,
          name: 'pg',
          include: files('.pg.test.ts'),
          testTimeout: 60_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          expect: expectOptions,
          name: 'vm',
          include: vmFiles(),
          // Each of these boots guests on software CPUs: one at a time is fastest on two cores.
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 600_000,
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          expect: expectOptions,
          name: 'lab',
          include: process.env['AVIARY_LAB'] === '1' ? files('.lab.test.ts') : [],
          fileParallelism: false,
          // All of it runs on a software CPU, guests on one inside another.
          testTimeout: 600_000,
          hookTimeout: 600_000,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
