import { defineConfig } from 'vitest/config';

// A file's suffix says what it needs: x.test.ts nothing, x.pg.test.ts PostgreSQL, x.vm.test.ts root and QEMU.
const roots = ['apps/*/src', 'packages/*/src', 'scripts'];
const files = (suffix: string) => roots.map((root) => `${root}/**/*${suffix}`);

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: files('.test.ts'),
          exclude: ['**/node_modules/**', '**/*.{pg,redis,vm,lab}.test.ts'],
          testTimeout: 20_000,
          // An embedded database takes seconds to start on a busy machine.
          hookTimeout: 60_000,
        },
      },
      { test: { name: 'pg', include: files('.pg.test.ts'), testTimeout: 60_000, hookTimeout: 120_000 } },
      {
        test: {
          name: 'vm',
          include: files('.vm.test.ts'),
          // Each of these boots guests on software CPUs: one at a time is fastest on two cores.
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
