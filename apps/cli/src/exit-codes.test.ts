import { AppError } from '@aviary/core';
import { AviaryError } from '@aviary/sdk';
import { expect, test } from 'vitest';
import { ExitWith, exitCodeOf, UsageError } from './exit-codes.ts';

test.each<[unknown, number]>([
  [new ExitWith(137), 137],
  [new UsageError('no'), 2],
  [new AviaryError('not_found', 'no'), 3],
  [new AviaryError('unreachable', 'no'), 4],
  [new AviaryError('forbidden', 'no'), 5],
  [new AppError('invalid_state', 'no'), 6],
  [new AviaryError('no_capacity', 'no'), 7],
  [new AviaryError('timeout', 'no'), 124],
  [new AviaryError('disk_full', 'no'), 1],
  [new Error('no'), 1],
])('%s ends the program with %i', (error, code) => {
  expect(exitCodeOf(error)).toBe(code);
});
