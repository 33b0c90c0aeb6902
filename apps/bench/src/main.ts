import { parseArgs } from 'node:util';
import { benchApi } from './api/api.ts';
import { benchDensity } from './density.ts';
import { benchLifecycle } from './lifecycle.ts';
import { type BenchOptions, type BenchReport, formatTable } from './report.ts';

const benches = { lifecycle: benchLifecycle, density: benchDensity, api: benchApi } as const satisfies Record<
  string,
  (options: BenchOptions) => Promise<BenchReport>
>;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, samples: { type: 'string', default: '9' } },
});
const name = positionals[0] ?? '';
const samples = Number(values.samples);
if (!Object.hasOwn(benches, name) || !Number.isInteger(samples) || samples < 1) {
  process.stderr.write(`usage: npm run bench -- ${Object.keys(benches).join('|')} [--json] [--samples N]\n`);
  process.exit(2);
}
const startedAt = performance.now();
const report = await benches[name as keyof typeof benches]({
  samples,
  onRow: (row) => {
    const seconds = Math.round((performance.now() - startedAt) / 1_000);
    process.stderr.write(`${seconds} s: ${row.name} ${row.product} ${row.unit}, floor ${row.floor ?? 'none'}\n`);
  },
});
process.stdout.write(`${values.json ? JSON.stringify(report) : formatTable(report)}\n`);
process.exit(0);
