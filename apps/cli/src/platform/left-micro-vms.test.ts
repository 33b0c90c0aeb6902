import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { findLeftMicroVms } from './left-micro-vms.ts';

it('finds the microVMs of a data directory, whoever they belong to, and no other process', async () => {
  const named = (argv0: string, argument: string) =>
    spawn(process.execPath, ['-e', 'process.stdout.write("up"); setInterval(() => 0, 1e6)', argument], { argv0 });
  const qmp = (dataDir: string) => `unix:${dataDir}/host/sandboxes/one/run/qmp.sock,server=on`;
  const programs = [
    named('/usr/bin/qemu-system-x86_64', qmp('/data/left')),
    named('/usr/bin/qemu-system-x86_64', qmp('/data/left-other')),
    named('tail', '/data/left/host/sandboxes/one/run/vmm.log'),
  ];
  try {
    await Promise.all(programs.map(({ stdout }) => once(stdout, 'data')));
    expect(await findLeftMicroVms('/data/left')).toEqual([programs[0]?.pid]);
  } finally {
    for (const program of programs) program.kill('SIGKILL');
  }
});
