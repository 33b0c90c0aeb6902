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
      from: { path: '^apps/([^/]+)/' },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    {
      name: 'packages-do-not-import-apps',
      severity: 'error',
      from: { path: '^packages/(?!testing/)' },
      to: { path: '^apps/' },
    },
    {
      name: 'only-agents-import-linux',
      comment: 'Kernel calls belong to the agents. The lock between processes is for all who share files.',
      severity: 'error',
      from: { pathNot: '^(apps/(host-agent|guest-agent|pager)|packages/(linux|testing))/' },
      to: { path: '^packages/linux/', pathNot: '^packages/linux/src/file-lock[.]ts$' },
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
