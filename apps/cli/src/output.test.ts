import { expect, test } from 'vitest';
import { renderFields, renderTable } from './output.ts';

test.each([
  ['\u001b[2Jgone', '\\u{1b}[2Jgone'],
  ['a\r\nb', 'a\\u{d}\\u{a}b'],
  ['\u009b31m', '\\u{9b}31m'],
  ['txt.\u202eexe', 'txt.\\u{202e}exe'],
])('%j in a table or a field steers no terminal', (name, shown) => {
  expect(renderTable(['NAME', 'SIZE'], [[name, '1']])).toContain(`\n${shown}  1`);
  expect(renderFields({ name, size: 1 })).toContain(`name:  ${shown}`);
});

test('what people can read is shown as it is', () => {
  const name = 'Zoë 👩‍🔬 نام';
  expect(renderTable(['NAME'], [[name]])).toBe(`NAME\n${name}`);
});
