import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';

const run = (file: string, ...args: string[]) => execFileSync(file, args, { encoding: 'utf8' });

test('the lab is an ordinary machine with KVM, one unified cgroup tree and device-mapper', () => {
  expect(statSync('/dev/kvm').mode & 0o777).toBe(0o660);
  expect(readFileSync('/proc/cpuinfo', 'utf8')).toMatch(/^flags\s*:.* svm /m);
  expect(readFileSync('/sys/fs/cgroup/cgroup.controllers', 'utf8')).toMatch(/cpu .*memory .*pids/);
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toMatch(/ - cgroup /);
  expect(run('sudo', '-u', 'dev', 'sudo', '-n', 'id', '-u')).toBe('0\n');
  expect(run('dmsetup', 'targets')).toMatch(/^snapshot /m);
});
