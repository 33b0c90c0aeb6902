import { describe, expect, it } from 'vitest';
import { quantile, rateRow, row } from './report.ts';

describe('quantile', () => {
  it('is always one of the samples', () => {
    expect(quantile([3, 1, 2], 0.5)).toBe(2);
    expect(quantile([1, 2, 3, 4], 0.99)).toBe(4);
    expect(quantile([7], 0.99)).toBe(7);
  });
});

describe('row', () => {
  it('divides medians, and takes the tail from its own samples', () => {
    const result = row('x', 'ms', { floor: [10, 10, 10], product: [15, 15, 90], tail: [1, 1, 1, 4] });
    expect(result).toMatchObject({ floor: 10, product: 15, ratio: 1.5, tail: 4, samples: 3 });
  });
});

describe('rateRow', () => {
  it('has a ratio that is better when lower, and the least that is asked for as its limit', () => {
    const result = rateRow('x', { floor: [100], product: [50], tail: [1, 2] }, { share: 0.6, tail: 3 });
    expect(result).toMatchObject({ unit: '1/s', floor: 100, product: 50, ratio: 2, limit: 60, tail: 2, tail_limit: 3 });
  });
});
