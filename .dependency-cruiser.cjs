/** Which folder may import which: the boundaries of ARCHITECTURE.md, enforced. */
module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'core-imports-nothing',
      severity: 'error',
      from: { path: '^packages/core/src', pathNot: '[.]test[.]ts$' },
      to: { pathNot: '^packages/core/src' },
    },
    {
      name: 'no-app-imports-app',
      severity: 'error',
      comment: 'The benchmarks and the tests of the whole product start and measure the others.',
      from: { path: '^apps/([^/]+)/', pathNot: '^apps/bench/' },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    {
      name: 'bench-only-by-exports',
      severity: 'error',
      from: { path: '^apps/bench/' },
      to: {
        path: '^apps/',
        pathNot: '^apps/(bench/|control-plane/src/start[.]ts$|host-agent/src/testing/index[.]ts$)',
      },
    },
    {
      name: 'no-folder-circles',
      scope: 'folder',
      severity: 'error',
      from: { path: '^apps/[^/]+/src/[^/]+$' },
      // Tests of a folder use what is shared for tests, which uses the folder.
      to: { path: '^apps/[^/]+/src/[^/]+$', pathNot: '/testing$', circular: true },
    },
    {
      name: 'packages-do-not-import-apps',
      severity: 'error',
      from: { path: '^packages/' },
      to: { path: '^apps/' },
    },
    {
      name: 'only-agents-import-linux',
      comment:
        'Kernel calls belong to the agents. The lock between processes is for all who share files; the rate of a counter is no call.',
      severity: 'error',
      from: { pathNot: '^(apps/(host-agent|guest-agent|pager|bench)|packages/linux)/' },
      to: { path: '^packages/linux/', pathNot: '^packages/linux/src/(file-lock|tsc)[.]ts$' },
    },
    {
      // Its types are the contract's; to run it needs nothing of ours.
      name: 'sdk-runs-alone',
      severity: 'error',
      from: { path: '^packages/sdk/src', pathNot: '[.]test[.]ts$' },
      to: { path: '^(packages/(?!sdk/)|apps/)', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'contract-imports-core-alone',
      severity: 'error',
      from: { path: '^packages/api-contract/src' },
      to: { path: '^(packages/(?!(api-contract|core)/)|apps/)' },
    },
    {
      // With a rule of the linter, which finds what is asked of a store that was handed over.
      name: 'sql-in-stores',
      severity: 'error',
      from: { path: '^apps/control-plane/src', pathNot: '(-store|[.]test)[.]ts$' },
      to: { path: 'node_modules/kysely/', dependencyTypesNot: ['type-only'] },
    },
    { name: 'not-to-test', severity: 'error', from: { pathNot: '[.]test[.]ts$' }, to: { path: '[.]test[.]ts$' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: 'packages/proto/gen' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
  },
};
