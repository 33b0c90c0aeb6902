import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { currentTrace, readTraceHeaders, runWithTrace, writeTraceHeaders } from './trace.ts';

test('work that runs at once keeps its own ids, and an operation keeps those of its request', async () => {
  const seen = await Promise.all(
    ['req-1', 'req-2'].map((requestId) =>
      runWithTrace({ requestId }, async () => {
        await turn();
        return runWithTrace({ operationId: `op-of-${requestId}` }, async () => {
          await turn();
          return currentTrace();
        });
      }),
    ),
  );
  expect(seen).toEqual([
    { requestId: 'req-1', operationId: 'op-of-req-1' },
    { requestId: 'req-2', operationId: 'op-of-req-2' },
  ]);
  expect(currentTrace()).toEqual({});
});

test('ids go from one process to the next by headers; anything else in them is dropped', () => {
  const headers = new Headers();
  runWithTrace({ requestId: 'req-1', operationId: '0190' }, () => writeTraceHeaders(headers));
  expect(readTraceHeaders(headers)).toEqual({ requestId: 'req-1', operationId: '0190' });
  headers.set('x-aviary-request-id', 'a "forged" line');
  expect(readTraceHeaders(headers)).toEqual({ operationId: '0190' });
});
