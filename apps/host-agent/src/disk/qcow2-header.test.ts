import fc from 'fast-check';
import { expect, test } from 'vitest';
import { emptyImage, parseHeader } from './qcow2-header.ts';

const mib = 1024 * 1024;
const image = (name = '/data/base.ext4') =>
  emptyImage({ virtualBytes: 64 * mib, backing: { name, format: 'raw' } }).parts[0]?.data ?? Buffer.alloc(0);

test('reads back what it writes', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_048_576 }),
      fc.string({ minLength: 1, maxLength: 300, unit: 'grapheme' }),
      fc.constantFrom('qcow2' as const, 'raw' as const),
      (sizeMib, text, format) => {
        const backing = { name: `/${text}`.slice(0, 250), format };
        // Half a surrogate pair does not survive any encoding.
        fc.pre(backing.name.isWellFormed() && Buffer.byteLength(backing.name) <= 1_023);
        const { parts } = emptyImage({ virtualBytes: sizeMib * mib, backing });
        expect(parseHeader(parts[0]?.data ?? Buffer.alloc(0), 'x')).toEqual({
          version: 3,
          virtualBytes: sizeMib * mib,
          backing,
        });
      },
    ),
  );
});

test('any damaged header is read or refused, never more', () => {
  const intact = image();
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(intact.length - 1), fc.nat(255)), { maxLength: 12 }),
      fc.nat(intact.length),
      (changes, length) => {
        const bytes = Buffer.from(intact.subarray(0, length));
        for (const [at, value] of changes) if (at < length) bytes[at] = value;
        try {
          parseHeader(bytes, 'x');
        } catch (error) {
          expect(error).toMatchObject({ code: 'integrity' });
        }
      },
    ),
  );
});

test('refuses a base whose name the format has no room for', () => {
  expect(() => image(`/${'x'.repeat(1_023)}`)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
});

test.each([
  ['another format', (bytes: Buffer) => bytes.write('MOCK', 0), 'not a qcow2 image'],
  ['a corrupt image', (bytes: Buffer) => bytes.writeBigUInt64BE(2n, 72), 'marked corrupt'],
  ['an external data file', (bytes: Buffer) => bytes.writeBigUInt64BE(4n, 72), 'data in another file'],
  ['an external data file’s name', (bytes: Buffer) => bytes.writeUInt32BE(0x44415441, 104), 'data in another file'],
  ['unknown features', (bytes: Buffer) => bytes.writeBigUInt64BE(64n, 72), 'unknown features (0x40)'],
  ['encryption', (bytes: Buffer) => bytes.writeUInt32BE(1, 32), 'encrypted'],
  ['a huge extension', (bytes: Buffer) => bytes.writeUInt32BE(0xffffffff, 108), 'extensions are damaged'],
  ['a name outside of the file', (bytes: Buffer) => bytes.writeUInt32BE(1_000, 16), 'out of range'],
])('refuses %s', (_what, damage, why) => {
  const bytes = Buffer.from(image());
  damage(bytes);
  expect(() => parseHeader(bytes, 'x')).toThrow(
    expect.objectContaining({ code: 'integrity', message: expect.stringContaining(why) }),
  );
});
