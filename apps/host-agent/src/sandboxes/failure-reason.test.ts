import { AppError } from '@aviary/core';
import { expect, it } from 'vitest';
import { failureReason } from './failure-reason.ts';

const system = (code: string) => Object.assign(new Error(`${code}: no such process, write`), { code });

it("never repeats the operating system's words", () => {
  expect(failureReason(system('ESRCH'))).toBe('the host failed (ESRCH); its log says at what');
  expect(failureReason(system('ENOSPC'))).toContain("the host's disk is full");
  expect(failureReason(new AppError('guest_unavailable', 'the guest is gone'))).toBe('the guest is gone');
});
