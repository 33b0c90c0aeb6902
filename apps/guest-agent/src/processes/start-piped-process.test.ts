import { expect, it } from 'vitest';
import { gatherMs } from './start-piped-process.ts';

it('lets output gather that comes fast in middling pieces, longer where reading is slow', () => {
  expect(gatherMs(4_096, 0.05)).toBe(1);
  expect(gatherMs(4_096, 11)).toBe(22);
  expect(gatherMs(4_096, 60)).toBe(25);
});

it('holds nothing back that is small, large or rare', () => {
  expect([gatherMs(80, 1), gatherMs(65_536, 1), gatherMs(4_096, 500)]).toEqual([0, 0, 0]);
});
