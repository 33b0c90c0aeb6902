import { expect, test } from 'vitest';
import { MemorySaver } from './memory-saver.ts';

test('gives memory back once after a burst, when the process has come to rest', () => {
  const times = { active: 0, idle: 0 };
  let given = 0;
  const saver = new MemorySaver(
    () => ({ ...times }),
    () => {
      given++;
      times.active += 500; // a slow collection
    },
  );
  const look = (active: number, idle: number) => {
    times.active += active;
    times.idle += idle;
    saver.runOnce();
    return given;
  };
  expect(look(5, 1_995), 'nothing has happened').toBe(0);
  expect(look(600, 1_400), 'in a burst').toBe(0);
  expect(look(600, 1_400)).toBe(0);
  expect(look(5, 1_995), 'after it').toBe(1);
  expect(look(5, 1_995), 'the collection is no burst').toBe(1);
  expect(look(5, 1_995)).toBe(1);
  expect(look(600, 1_400)).toBe(1);
  expect(look(5, 1_995)).toBe(2);
});

test('reads the times of this process by itself', () => {
  expect(() => new MemorySaver().runOnce()).not.toThrow();
});
