import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { watchParent } from './parent-watch.ts';

it('tells when the pipe from the parent closes, if it was asked to', async () => {
  const stdin = new PassThrough();
  const signal = watchParent({ isEnabled: true, stdin });
  expect(signal.aborted).toBe(false);
  const told = new Promise((resolve) => signal.addEventListener('abort', resolve));
  stdin.end();
  await told;
  const ignored = new PassThrough();
  const never = watchParent({ isEnabled: false, stdin: ignored });
  ignored.destroy();
  await new Promise((resolve) => setImmediate(resolve));
  expect(never.aborted).toBe(false);
});
