import { expect, it } from 'vitest';
import { noGuestNote, parseVersion } from './probe.ts';

it('reads QEMU’s version', () => {
  expect(parseVersion('QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright')).toBe('7.2.22');
  expect(parseVersion('')).toBe('unknown');
});

it('says in one line why KVM runs no guest', () => {
  const log = [
    'the VMM did not start (exit code 1): Could not access KVM kernel module: Permission denied',
    'qemu-system-x86_64: -accel kvm: failed to initialize kvm: Permission denied',
  ].join('\n');
  expect(noGuestNote(log)).toBe(
    '/dev/kvm runs no guest: the VMM did not start (exit code 1): Could not access KVM kernel module: Permission denied',
  );
  expect(noGuestNote('x'.repeat(1_000)).length).toBeLessThanOrEqual(160);
});
