import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  AppError,
  asId,
  formatId,
  type IdKind,
  idPrefixes,
  newId,
  nilUuid,
  parseId,
  sandboxHostLabel,
  uuidv7,
  wireIdSource,
} from './index.ts';

const kinds = Object.keys(idPrefixes) as IdKind[];
const moments = fc.integer({ min: 0, max: 2 ** 48 - 1 });

test('every id comes back from the wire as the kind that it was, and as no other', () => {
  fc.assert(
    fc.property(fc.constantFrom(...kinds), fc.constantFrom(...kinds), moments, (kind, other, nowMs) => {
      const id = newId(kind, nowMs);
      expect(parseId(kind, formatId(kind, id))).toBe(id);
      if (other !== kind) expect(() => parseId(other, formatId(kind, id))).toThrow(AppError);
    }),
  );
});

test('prefixes are of one kind each, and none begins another', () => {
  const prefixes = Object.values(idPrefixes).map((prefix) => `${prefix}-`);
  for (const one of prefixes) expect(prefixes.filter((other) => other.startsWith(one))).toEqual([one]);
});

test('ids sort by age', () => {
  fc.assert(
    fc.property(moments, moments, (a, b) => {
      fc.pre(a !== b);
      expect(uuidv7(a) < uuidv7(b)).toBe(a < b);
    }),
  );
});

test('ids of one millisecond differ, and are of version 7 and the RFC 9562 variant', () => {
  const ids = Array.from({ length: 1_000 }, () => uuidv7(1));
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/);
});

test('the pattern of wire ids says exactly what is parsed', () => {
  const pattern = new RegExp(`^${wireIdSource('sandbox')}$`);
  const almost = fc
    .tuple(fc.constantFrom('sb-', 'sb', 'SB-', 'gen-', ''), fc.constantFrom(nilUuid, uuidv7()), fc.nat(40), fc.string())
    .map(([prefix, uuid, at, noise]) => `${prefix}${uuid.slice(0, at)}${noise}${uuid.slice(at + noise.length)}`);
  const parses = (text: string) => {
    try {
      return parseId('sandbox', text).length > 0;
    } catch {
      return false;
    }
  };
  fc.assert(
    fc.property(almost, (text) => {
      expect(pattern.test(text)).toBe(parses(text));
    }),
    { numRuns: 2_000 },
  );
});

test.each([
  ['web', 'not a sandbox id: "web"; they look like sb-0190c2d4-7a1b-7c3d-8e5f-0123456789ab'],
  ['x'.repeat(500), `not a sandbox id: "${'x'.repeat(60)}…"; they look like sb-`],
])('a malformed id is refused in words', (text, message) => {
  try {
    parseId('sandbox', text, 'id');
    expect.unreachable();
  } catch (error) {
    expect(error).toMatchObject({ code: 'invalid_request', details: { field: 'id' } });
    expect((error as Error).message).toContain(message);
  }
});

test('an upper-case UUID is none of ours', () => {
  const uuid = uuidv7(2 ** 47);
  expect(() => asId('sandbox', uuid.toUpperCase())).toThrow(AppError);
  expect(asId('sandbox', uuid)).toBe(uuid);
});

test('the label of a sandbox in host names is its 32 hex digits', () => {
  expect(sandboxHostLabel(newId('sandbox'))).toMatch(/^[0-9a-f]{32}$/);
});
