import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { noGuestNote, parseVersion, rememberFinding } from './probe.ts';

it('keeps what the probe found, and asks again after one that had not answered in time', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'aviary-finding-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const place = { file: path.join(directory, 'accelerator.json'), key: 'this boot' };
  const late = { note: 'no answer', isUndecided: true } as const;
  expect(await rememberFinding(place, async () => late)).toEqual(late);
  expect(JSON.parse(await readFile(place.file, 'utf8'))).toMatchObject({ note: 'no answer' });
  expect(await rememberFinding(place, async () => ({ note: null }))).toEqual({ note: null });
  expect(await rememberFinding(place, async () => late)).toEqual({ note: null });
  const next = { ...place, key: 'the next boot' };
  for (let attempt = 1; attempt <= 3; attempt++) expect(await rememberFinding(next, async () => late)).toEqual(late);
  expect(await rememberFinding(next, async () => ({ note: null }))).toEqual({ note: 'no answer' });
});

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
