import { expect, it } from 'vitest';
import { parseCgroupLayout } from './cgroup.ts';

it('reads a unified tree', () => {
  const text = '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n';
  const entry = { mount: '/sys/fs/cgroup', version: 2 };
  expect(parseCgroupLayout(text, 'cpuset cpu io memory pids\n')).toEqual({
    controllers: { memory: entry, cpu: entry, pids: entry },
    unified: '/sys/fs/cgroup',
  });
});

it('reads trees per controller beside a unified one that manages none', () => {
  const text = [
    '40 23 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
    '41 23 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
    '42 23 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd',
    '43 23 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
  ].join('\n');
  expect(parseCgroupLayout(text, '\n')).toEqual({
    controllers: {
      memory: { mount: '/sys/fs/cgroup/memory', version: 1 },
      cpu: { mount: '/sys/fs/cgroup/cpu,cpuacct', version: 1 },
    },
    unified: '/sys/fs/cgroup/unified',
  });
});

it('finds nothing where nothing is mounted', () => {
  expect(parseCgroupLayout('20 1 0:1 / / rw - ext4 /dev/sda rw\n', '')).toEqual({
    controllers: {},
    unified: undefined,
  });
});
