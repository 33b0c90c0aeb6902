import { expect, test } from 'vitest';
import { startTestPlatform } from '../test-platform.ts';

test('a refused value is told in the words of its own field, whoever else has its pattern', async () => {
  await using platform = await startTestPlatform();
  const refusal = async (method: string, path: string, body?: object) => {
    const reply = await platform.call(method, path, body ? { body } : {});
    return [reply.status, reply.body.error.message];
  };
  const notACursor = [400, 'the cursor is not one that this list gave; start without one'];
  expect(await refusal('GET', '/v1/operations/op-')).toEqual([
    400,
    expect.stringMatching(/^not an operation id: "op-"/),
  ]);
  expect(await refusal('GET', '/v1/sandboxes/sb-')).toEqual([400, expect.stringMatching(/^not a sandbox id: "sb-"/)]);
  expect(await refusal('GET', '/v1/sandboxes?cursor=%00')).toEqual(notACursor);
  expect(await refusal('POST', '/v1/snapshots', { sandbox_id: 'sb-', name: 'x' })).toEqual([
    400,
    expect.stringMatching(/^not a sandbox id: "sb-"/),
  ]);
  const id = `sb-${platform.host.id.replace(/^[^-]*-/, '')}`;
  expect(await refusal('POST', '/v1/snapshots', { sandbox_id: id })).toEqual([400, 'name is missing']);
});
