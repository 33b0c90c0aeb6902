import { AppError } from '@aviary/core';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { exitAtStart } from './start-failure.ts';

describe('a service that cannot start', () => {
  let printed = '';
  const ended = new Error('the process has ended');
  const fail = (error: unknown): string => {
    printed = '';
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      printed += String(text);
      return true;
    });
    vi.spyOn(process, 'exit').mockImplementation((code) => {
      expect(code).toBe(1);
      throw ended;
    });
    expect(() => exitAtStart('some-service', error)).toThrow(ended);
    return printed;
  };
  afterEach(() => vi.restoreAllMocks());

  it('says in one line what to do about a setting', () => {
    const error = new AppError('invalid_request', 'AVIARY_PORT must be a number');
    expect(fail(error)).toBe('some-service: AVIARY_PORT must be a number\n');
  });

  it('shows where a fault of ours comes from', () => {
    expect(fail(new TypeError('x is not a function'))).toMatch(
      /^some-service: TypeError: x is not a function\n {4}at /,
    );
    expect(fail('a text')).toBe('some-service: a text\n');
  });
});
