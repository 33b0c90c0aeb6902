import fc from 'fast-check';
import { expect, test } from 'vitest';
import { maxSlotIndex, slotAddress, slotIndexOf } from './slot-address.ts';

const indices = fc.integer({ min: 1, max: maxSlotIndex });

/** An IPv4 address as a number, or NaN when a part is out of range. */
function numberOf(address: string): number {
  const parts = address.split('.').map(Number);
  if (parts.length !== 4 || parts.some((part) => !(part >= 0 && part <= 255))) return Number.NaN;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

test('no two slots share a name, an address or a uid', () => {
  const seen = new Set<string | number>();
  for (let index = 1; index <= maxSlotIndex; index++) {
    const slot = slotAddress(index);
    for (const value of [slot.namespace, slot.hostAddress, slot.vethHostAddress, slot.vethSlotAddress, slot.uid]) {
      expect(seen.has(value)).toBe(false);
      seen.add(value);
    }
  }
});

test('addresses lie in their networks, and the veth ends form one /31', () => {
  fc.assert(
    fc.property(indices, (index) => {
      const slot = slotAddress(index);
      expect(numberOf(slot.hostAddress) >>> 16).toBe((10 << 8) | 11);
      expect(numberOf(slot.vethHostAddress) >>> 16).toBe((10 << 8) | 12);
      expect(numberOf(slot.vethHostAddress) % 2).toBe(0);
      expect(numberOf(slot.vethSlotAddress)).toBe(numberOf(slot.vethHostAddress) + 1);
    }),
  );
});

test('names fit into the kernel’s 15 bytes with any prefix, and lead back to their slot only', () => {
  const prefixes = fc.stringMatching(/^[a-z][a-z0-9]{0,7}$/);
  fc.assert(
    fc.property(indices, prefixes, prefixes, (index, prefix, other) => {
      const slot = slotAddress(index, { prefix });
      expect(Buffer.byteLength(slot.vethName)).toBeLessThanOrEqual(15);
      expect(slotIndexOf(slot.namespace, prefix)).toBe(index);
      if (other !== prefix) expect(slotIndexOf(slot.namespace, other)).toBeUndefined();
    }),
  );
});

test.each([0, -1, 1.5, 32_768, Number.NaN])('refuses index %s', (index) => {
  expect(() => slotAddress(index)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
});

test.each(['', 'UPPER', 'ninechars', 'a-b', '1a'])('refuses prefix %j', (prefix) => {
  expect(() => slotAddress(1, { prefix })).toThrow(expect.objectContaining({ code: 'invalid_request' }));
});

test.each(['avy-0', 'avy-01', 'avy-32768', 'avy-', 'avy-1x', 'avyh-1', 'docker0'])('%s is no slot', (name) => {
  expect(slotIndexOf(name)).toBeUndefined();
});
