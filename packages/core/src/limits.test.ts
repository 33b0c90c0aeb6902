import { expect, test } from 'vitest';
import { checkSandboxSizes, execLimits, sandboxLimits } from './index.ts';

const fitting = { vcpus: 1, memoryMib: 512, diskMib: 5_120 };

test('every range holds its own default', () => {
  for (const range of [...Object.values(sandboxLimits), ...Object.values(execLimits)]) {
    if (typeof range !== 'object' || !('default' in range)) continue;
    expect(range.min).toBeLessThanOrEqual(range.default);
    expect(range.default).toBeLessThanOrEqual(range.max);
  }
});

test.each([
  ['vcpus', 'vcpus', sandboxLimits.vcpus],
  ['memoryMib', 'memory_mib', sandboxLimits.memoryMib],
  ['diskMib', 'disk_mib', sandboxLimits.diskMib],
] as const)('%s is taken from the least to the most, in whole numbers', (part, field, { min, max }) => {
  for (const value of [min, max]) expect(() => checkSandboxSizes({ ...fitting, [part]: value })).not.toThrow();
  for (const value of [min - 1, max + 1, min + 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => checkSandboxSizes({ ...fitting, [part]: value })).toThrow(
      expect.objectContaining({ code: 'invalid_request', details: { field } }),
    );
  }
});
