import multipart from '@fastify/multipart';
import Fastify from 'fastify';
import { expect, test } from 'vitest';
import { readUploadForm } from './upload-form.ts';

test('a file with more bytes than it may have is refused, and only the rest of its request is read', async () => {
  await using app = Fastify();
  await app.register(multipart, { limits: { fileSize: 100_000 } });
  const ended: unknown[] = [];
  app.post('/', async (request) => {
    const form = await readUploadForm(request, { path: '/tmp/f' });
    try {
      let size = 0;
      for await (const chunk of form.content) size += chunk.length;
      return { size };
    } catch (error) {
      await form.drain(new AbortController().signal);
      ended.push(error);
      throw error;
    }
  });
  const address = await app.listen({ host: '127.0.0.1', port: 0 });
  const post = async (size: number) => {
    const body = new FormData();
    body.append('file', new Blob([Buffer.alloc(size)]), 'f');
    return await (await fetch(address, { method: 'POST', body })).json();
  };
  expect(await post(100_000)).toEqual({ size: 100_000 });
  await post(5_000_000);
  expect(ended).toMatchObject([{ code: 'payload_too_large', details: { field: 'file' } }]);
});
