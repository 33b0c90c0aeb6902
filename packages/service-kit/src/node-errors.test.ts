import { readFile } from 'node:fs/promises';
import { AppError } from '@aviary/core';
import { expect, it } from 'vitest';
import { fromNodeError, nodeErrorCode } from './node-errors.ts';

const system = (code: string) => Object.assign(new Error(`${code}: something, write`), { code, errno: -1 });

it("tells the operating system's errors from all others", async () => {
  const missing = await readFile('/no/such/file').catch((error: unknown) => error);
  expect(nodeErrorCode(missing)).toBe('ENOENT');
  const own = Object.assign(new Error('x'), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
  for (const other of [own, new AppError('disk_full', 'x'), new Error('ENOSPC'), { code: 'ENOSPC' }, undefined])
    expect(nodeErrorCode(other)).toBeUndefined();
});

it('says of a full disk or a used-up quota the same, whatever was being done', () => {
  for (const code of ['ENOSPC', 'EDQUOT']) {
    const error = system(code);
    expect(fromNodeError(error)).toMatchObject({
      ...{ code: 'disk_full', cause: error },
      message: expect.stringMatching(/^the host's disk is full; /),
    });
    expect(fromNodeError(error, 'save memory')).toMatchObject({
      message: expect.stringMatching(/^cannot save memory: the host's disk is full; /),
    });
  }
  const other = system('EIO');
  expect(fromNodeError(other, 'save memory')).toBe(other);
});
