import { PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import { expect, it } from 'vitest';
import { forEachLine, readableLogLine } from './log-lines.ts';

it('cuts a stream into lines, wherever its pieces end', async () => {
  const stream = new PassThrough();
  const lines: string[] = [];
  forEachLine(stream, (line) => lines.push(line));
  for (const piece of ['on', 'e\ntw', 'o\n\nth', 'ree']) stream.write(piece);
  stream.end();
  await finished(stream);
  expect(lines).toEqual(['one', 'two', '', 'three']);
});

it('does not collect a line without end', async () => {
  const stream = new PassThrough();
  const lines: string[] = [];
  forEachLine(stream, (line) => lines.push(line));
  stream.end('x'.repeat(40_000));
  await finished(stream);
  expect(lines.map(({ length }) => length)).toEqual([16_384, 16_384, 7_232]);
});

it('makes JSON log lines readable and leaves others alone', () => {
  const line = '{"level":40,"time":1,"name":"host-agent","msg":"cannot pause","sandbox":"sb-1","ms":12}';
  expect(readableLogLine(line)).toBe('warn cannot pause sandbox=sb-1 ms=12');
  for (const other of ['plain', '{"not":"a log line"}', '{broken']) expect(readableLogLine(other)).toBe(other);
});

it('shows of an error what happened, not where in the program', () => {
  const err = {
    type: 'AppError',
    message: 'no such file: [not_found] no such file',
    stack: 'AppError: …',
    code: 'not_found',
  };
  const line = JSON.stringify({ level: 30, msg: 'call failed', method: 'ListDir', err, detail: 'one\ntwo' });
  expect(readableLogLine(line)).toBe(
    'info call failed method=ListDir err=no such file: [not_found] no such file detail=one …',
  );
  const fatal = JSON.stringify({ level: 50, msg: 'broken', err: { message: 'x', stack: 'Error: x\n    at y' } });
  expect(readableLogLine(fatal)).toBe('error broken err=Error: x\n    at y');
});
