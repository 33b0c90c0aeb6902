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
