import { expect, test } from 'vitest';
import { batched } from './batched.ts';

test('what is asked at once is asked together, and each gets its own answer', async () => {
  const asked: number[][] = [];
  const double = batched(async (numbers: readonly number[]) => {
    asked.push([...numbers]);
    return numbers.map((number) => number * 2);
  });
  expect(await Promise.all([1, 2, 3].map(double))).toEqual([2, 4, 6]);
  expect(await double(4)).toBe(8);
  expect(asked).toEqual([[1, 2, 3], [4]]);
});

test('a batch has an end', async () => {
  const sizes: number[] = [];
  const same = batched(
    async (numbers: readonly number[]) => {
      sizes.push(numbers.length);
      return numbers;
    },
    { maxSize: 2 },
  );
  expect(await Promise.all([1, 2, 3, 4, 5].map(same))).toEqual([1, 2, 3, 4, 5]);
  expect(sizes).toEqual([2, 2, 1]);
});

test('a failure is told to all who asked, and to nobody after them', async () => {
  let isBroken = true;
  const ask = batched(async (texts: readonly string[]) => {
    if (isBroken) throw new Error('broken');
    return texts;
  });
  const told = await Promise.allSettled([ask('a'), ask('b')]);
  expect(told.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  isBroken = false;
  expect(await ask('c')).toBe('c');
  await expect(batched(async () => [])('d')).rejects.toThrow('not answered whole');
});
