import { describe, expect, test } from 'vitest';
import { type Room, refusePlacement, type Size } from './placement-refusal.ts';

const small = { vcpus: 1, memoryMib: 512, diskMib: 5_120 };
const capacity = { vcpus: 16, memoryMib: 4_096, diskMib: 102_400 };
const room = (
  more: { host?: string; capacity?: Partial<Size>; free?: Partial<Size>; isOnline?: boolean } = {},
): Room => ({
  host: more.host ?? 'host-1',
  isOnline: more.isOnline ?? true,
  capacity: { ...capacity, ...more.capacity },
  free: { ...capacity, ...more.capacity, ...more.free },
});
const refuse = (size: Partial<Size>, rooms: Room[], more: { count?: number; isBound?: boolean } = {}) =>
  refusePlacement({ size: { ...small, ...size }, count: 1, isBound: false, rooms, ...more });

describe('what no host could ever hold is a mistake in the request, and is named', () => {
  test.each([
    [{ diskMib: 1_048_576 }, 'disk_size_mb', 'it needs 1048576 MiB of disk (the most is 102400)'],
    [{ memoryMib: 65_536 }, 'memory_mb', 'it needs 65536 MiB of memory (the most is 4096)'],
    [{ vcpus: 32 }, 'vcpus', 'it needs 32 vCPUs (the most is 16)'],
  ])('%o', (size, field, sentence) => {
    const error = refuse(size, [room(), room({ isOnline: false })]);
    expect([error.code, error.details['field'], error.retryAfterSec]).toEqual(['invalid_request', field, undefined]);
    expect(error.message).toBe(`no host is large enough: ${sentence}; ask for less, or add a larger host`);
  });

  test('many copies at once', () => {
    const error = refuse({}, [room()], { count: 100 });
    expect([error.code, error.details['field']]).toEqual(['invalid_request', 'count']);
    expect(error.message).toContain('100 copies at once need 100 vCPUs (the most is 16) and 51200 MiB of memory');
  });

  test('parts that only different hosts have', () => {
    const rooms = [room({ capacity: { memoryMib: 512 } }), room({ capacity: { vcpus: 1 } })];
    const error = refuse({ vcpus: 2, memoryMib: 1_024 }, rooms);
    expect(error.message).toBe(
      'no host is large enough: it needs 2 vCPUs and 1024 MiB of memory and 5120 MiB of disk; ask for less, or add a larger host',
    );
  });
});

describe('what has no place now may have one later', () => {
  test.each([
    ['memory', { memoryMib: 100 }, 'no host has room for 512 MiB of memory (the most free is 100) now; stop'],
    ['disk', { diskMib: 0 }, 'no host has room for 5120 MiB of disk (the most free is 0) now; stop'],
    [
      'vCPUs',
      { vcpus: 0, memoryMib: 0 },
      'no host has room for 1 vCPUs (the most free is 0) and 512 MiB of memory (the most free is 0) now; stop',
    ],
  ])('%s', (_what, free, sentence) => {
    const error = refuse({}, [room({ free })]);
    expect([error.code, error.retryAfterSec]).toEqual(['no_capacity', 2]);
    expect(error.message).toContain(sentence);
  });

  test('what each host lacks, when no part is missing on all', () => {
    const error = refuse({}, [
      room({ host: 'host-1', free: { memoryMib: 100 } }),
      room({ host: 'host-2', free: { vcpus: -1, diskMib: 5_000 } }),
    ]);
    expect(error.message).toBe(
      'no host has room for 1 vCPUs and 512 MiB of memory and 5120 MiB of disk now: host-1 lacks 412 MiB of memory, host-2 lacks 1 vCPUs and 120 MiB of disk; stop or pause a sandbox, or add a host',
    );
    expect(error.details['hosts']).toEqual([
      { id: 'host-1', lacks: { memory_mb: { missing: 412, free: 100 } } },
      { id: 'host-2', lacks: { vcpus: { missing: 1, free: 0 }, disk_size_mb: { missing: 120, free: 5_000 } } },
    ]);
  });

  test('hosts that are away', () => {
    const away = room({ isOnline: false });
    expect(refuse({}, []).message).toMatch(/^no host is online/);
    expect(refuse({}, [away]).message).toMatch(/^no host is online/);
    expect(refuse({}, [away], { isBound: true }).message).toMatch(/^the host that holds this state is not online/);
    const large = room({ isOnline: false, capacity: { memoryMib: 65_536 } });
    expect(refuse({ memoryMib: 8_192 }, [room(), large])).toMatchObject({ code: 'no_capacity' });
  });
});
