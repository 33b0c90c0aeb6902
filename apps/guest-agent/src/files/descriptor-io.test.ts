import { closeSync, openSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { DescriptorIo } from './descriptor-io.ts';

let fd: number;
afterEach(() => closeSync(fd));

it('tells an errno that no table names in the words of the kernel, as a fault of the request', async () => {
  // Nothing is mapped at address 0: the kernel answers EIO.
  fd = openSync('/proc/self/mem', 'r+');
  const io = new DescriptorIo();
  const { signal } = new AbortController();
  const refusal = (verb: string) => ({ code: 'invalid_request', message: `cannot ${verb}: i/o error (EIO)` });
  await expect(io.write(fd, Buffer.from('x'), signal)).rejects.toMatchObject(refusal('write'));
  await expect(io.read(fd, Buffer.alloc(1), { position: 0, signal })).rejects.toMatchObject(refusal('read'));
});
