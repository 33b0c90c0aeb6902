import { expect, it } from 'vitest';
import { openFilesLimit, setOpenFilesLimit } from './resource-limits.ts';

it('reads and sets how many files may be open', () => {
  const before = openFilesLimit();
  expect(before.soft).toBeGreaterThan(0);
  const lower = { soft: before.soft - 1, hard: before.hard };
  setOpenFilesLimit(lower);
  expect(openFilesLimit()).toEqual(lower);
  setOpenFilesLimit(before);
  expect(openFilesLimit()).toEqual(before);
  expect(() => setOpenFilesLimit({ soft: 2, hard: 1 })).toThrow(/EINVAL/);
});
