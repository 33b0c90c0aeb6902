import { expect, it } from 'vitest';
import { isQemuBelow, qemuArguments } from './arguments.ts';
import { parseLibraries } from './program-files.ts';

const commandLine = (directory: string) =>
  qemuArguments(
    {
      ...{ vcpus: 1, memoryMib: 256, kernelPath: '/k', initramfsPath: '/i', kernelParameters: [] },
      memoryPath: `${directory}/sandboxes/one/memory.img`,
    },
    {
      ...{ architecture: 'x64', accelerator: 'tcg', mapping: 'shared', isIncoming: false, tscKhz: undefined },
      cpuModel: undefined,
      socketPath: `${directory}/sandboxes/one/run/qmp.sock`,
    },
  );

it('knows a QEMU of its own by its command line, and takes no other process for one', () => {
  for (const directory of ['/var/lib/a', '/var/lib/a, b']) {
    const args = commandLine(directory);
    expect(isQemuBelow(directory, ['/usr/bin/qemu-system-x86_64', ...args])).toBe(true);
    expect(isQemuBelow(directory, ['qemu-system-aarch64', ...args])).toBe(true);
    // Another platform's, one that only looks at a file of ours, and none at all.
    expect(isQemuBelow('/var/lib/b', ['/usr/bin/qemu-system-x86_64', ...args])).toBe(false);
    expect(isQemuBelow(`${directory}/sandboxes/o`, ['/usr/bin/qemu-system-x86_64', ...args])).toBe(false);
    expect(isQemuBelow(directory, ['tail', '-f', `${directory}/sandboxes/one/run/vmm.log`])).toBe(false);
    expect(isQemuBelow(directory, ['grep', ...args])).toBe(false);
    expect(isQemuBelow(directory, [])).toBe(false);
  }
});

it('reads libraries and the loader from what ldd prints', () => {
  const text = [
    '\tlinux-vdso.so.1 (0x00007ffc5a1d6000)',
    '\tlibpixman-1.so.0 => /lib/x86_64-linux-gnu/libpixman-1.so.0 (0x00007f6a1c7d5000)',
    '\tlibmissing.so.1 => not found',
    '\t/lib64/ld-linux-x86-64.so.2 (0x00007f6a1e2c9000)',
    '',
  ].join('\n');
  expect(parseLibraries(text)).toEqual(['/lib/x86_64-linux-gnu/libpixman-1.so.0', '/lib64/ld-linux-x86-64.so.2']);
});
