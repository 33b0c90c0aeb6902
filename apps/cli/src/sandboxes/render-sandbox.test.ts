import type { Sandbox } from '@aviary/sdk';
import { expect, it } from 'vitest';
import { renderSandbox } from './render-sandbox.ts';

it('shows the fields of a sandbox in one order, whichever the answer has', () => {
  const fields = { vcpus: 1, updated_at: 'b', status: 'paused', created_at: 'a', id: 'sb-1', status_reason: null };
  const names = renderSandbox(fields as unknown as Sandbox)
    .split('\n')
    .map((line) => line.split(':')[0]);
  expect(names).toEqual(['id', 'status', 'vcpus', 'created_at', 'updated_at']);
});
