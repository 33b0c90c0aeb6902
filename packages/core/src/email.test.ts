import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseEmail } from './email.ts';

test.each([
  ['  Ada@Example.com ', 'Ada@Example.com', 'ada@example.com'],
  ['ＡＤＡ＠example．com', 'ADA@example.com', 'ada@example.com'],
  ['ﬁnn@example.com', 'finn@example.com', 'finn@example.com'],
  ['jörg@bücher.example', 'jörg@bücher.example', 'jörg@xn--bcher-kva.example'],
  ['jörg@xn--bcher-kva.example', 'jörg@xn--bcher-kva.example', 'jörg@xn--bcher-kva.example'],
  ['ada@example。com', 'ada@example。com', 'ada@example.com'],
  ["o'hara+news@example.com", "o'hara+news@example.com", "o'hara+news@example.com"],
  ['jörg@example.com', 'jörg@example.com', 'jörg@example.com'],
])('%j is one address however it is written', (text, address, key) => {
  expect(parseEmail(text)).toEqual({ address, key });
});

test.each([
  '',
  '@',
  'a@',
  '@b',
  'a b@c',
  'a@b@c',
  'a\u200b@b.c',
  'a\u202e@b.c',
  'a\0@b.c',
  'a@b\r\nBcc: x@y',
  `${'a'.repeat(65)}@b.c`,
  'x<ada@example.com>',
  '"ada"@example.com',
  'ada,bob@example.com',
  'ada;bob@example.com',
  'ada(bob)@example.com',
  'ada@example.com.',
  'ada@example.com。',
  'ada@exam%00ple.com',
  'ada@[127.0.0.1]',
  'ada@example.com:25',
])('%j is refused', (text) => {
  expect(() => parseEmail(text)).toThrow('email must be an e-mail address');
});

test('the key of a key is itself', () => {
  const part = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(part, part, (name, domain) => {
      try {
        const { key } = parseEmail(`${name}@${domain}`);
        expect(parseEmail(key).key).toBe(key);
      } catch (error) {
        expect(String(error)).toContain('e-mail address');
      }
    }),
  );
});
