import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { readTscKhz } from '@aviary/linux/tsc';
import type { LabDrives } from './drives.ts';
import { labMachine } from './recipe.ts';

export interface LabRun {
  /** Of the tests; undefined when the lab ended without telling. */
  exitCode: number | undefined;
  /** What the tests left for the host, as text; empty when nothing. */
  results: string;
  /** The kernel's messages. */
  console: string;
  /** Registers at each reset of a processor. Every restart is a triple fault, the ordered one too; where it happened, tells them apart. */
  resets: string;
  isTimedOut: boolean;
  /** How QEMU ended: a signal, or its exit code, which is 0 also when the machine inside restarted. */
  end: string;
}

export interface MachineOptions extends LabDrives {
  runDirectory: string;
  timeoutMs: number;
  signal: AbortSignal;
  onOutput: (text: string) => void;
}

/** What else the machine does, such as other tests with deadlines of their own, comes first. */
const bindAndYield = ['--pdeathsig', 'KILL', '--', 'nice', '-n', '5'];

/**
 * Runs the lab to its end, or to the deadline. Nothing that it writes is kept: drives are opened through layers that go away, and
 * the machine dies with this process.
 */
export async function runMachine(options: MachineOptions): Promise<LabRun> {
  const { runDirectory, timeoutMs, signal, onOutput } = options;
  const consoleFile = path.join(runDirectory, 'console.log');
  const resultsFile = path.join(runDirectory, 'results');
  const resetsFile = path.join(runDirectory, 'resets.log');
  const vmm = spawn(
    'setpriv',
    [
      ...bindAndYield,
      'qemu-system-x86_64',
      ...machineArguments(options, { consoleFile, resultsFile, resetsFile, tscKhz: await readTscKhz() }),
    ],
    // QEMU keeps the changes to its drives in files that have no name, in this directory. An input that has ended would close the output too.
    { stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: '/usr/bin:/bin', TMPDIR: runDirectory } },
  );
  let complaints = '';
  vmm.stdout.setEncoding('utf8').on('data', onOutput);
  vmm.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-10_000);
  });
  const isTimedOut = await untilEnd(vmm, { timeoutMs, signal });
  signal.throwIfAborted();
  const text = (file: string) => readFile(file, 'utf8').catch(() => '');
  const told = await text(resultsFile);
  const exitCode = /^(\d+)\n/.exec(told)?.[1];
  return {
    exitCode: exitCode === undefined ? undefined : Number(exitCode),
    results: told.slice(told.indexOf('\n') + 1),
    console: complaints + (await text(consoleFile)),
    resets: await text(resetsFile),
    isTimedOut,
    end: vmm.signalCode ?? `exit code ${vmm.exitCode}`,
  };
}

interface MachineFiles {
  consoleFile: string;
  resultsFile: string;
  resetsFile: string;
  /** Rate of the time-stamp counter, which QEMU passes through. */
  tscKhz: number | undefined;
}

function machineArguments(
  { kernel, initramfs, drives }: MachineOptions,
  { consoleFile, resultsFile, resetsFile, tscKhz }: MachineFiles,
): string[] {
  const { cpu, vcpus, memoryMib, translationCacheMib } = labMachine;
  // On a busy machine the emulated timers are too uneven to measure the time-stamp counter against: a kernel that fails at it, waits for ever.
  const tsc = tscKhz === undefined ? '' : ` tsc_early_khz=${tscKhz}`;
  const parameters = `console=ttyS0 reboot=t panic=-1 loglevel=6 mitigations=off tsc=reliable random.trust_cpu=on${tsc}`;
  const drive = (file: string, format: string) => [
    '-drive',
    `file=${file},format=raw,if=virtio,${format === 'squashfs' ? 'readonly=on' : 'snapshot=on,cache=unsafe,discard=unmap'}`,
  ];
  return [
    ...['-M', 'q35', '-accel', `tcg,thread=multi,tb-size=${translationCacheMib}`, '-cpu', cpu],
    ...['-smp', String(vcpus), '-m', `${memoryMib}M`, '-nodefaults', '-no-user-config', '-nographic', '-no-reboot'],
    // Of a kernel that restarts without a word, only the processor's state tells.
    ...['-d', 'cpu_reset', '-D', resetsFile],
    ...['-kernel', kernel, '-initrd', initramfs, '-append', parameters],
    ...drive(drives.root, 'ext4'),
    ...drive(drives.data, 'ext4'),
    ...drive(drives.sources, 'squashfs'),
    ...drive(drives.nodeModules, 'squashfs'),
    ...['-device', 'virtio-rng-pci', '-serial', `file:${consoleFile}`, '-device', 'virtio-serial-pci'],
    ...['-chardev', 'stdio,id=output,signal=off', '-device', 'virtserialport,chardev=output,name=lab.output'],
    ...['-chardev', `file,id=results,path=${resultsFile}`],
    ...['-device', 'virtserialport,chardev=results,name=lab.results'],
  ];
}

/** True when the deadline ended it. */
async function untilEnd(
  vmm: ChildProcess,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<boolean> {
  let isTimedOut = false;
  const kill = () => vmm.kill('SIGKILL');
  const timer = setTimeout(() => {
    isTimedOut = true;
    kill();
  }, timeoutMs);
  signal.addEventListener('abort', kill, { once: true });
  if (signal.aborted) kill();
  try {
    await new Promise<void>((resolve, reject) => {
      vmm.once('error', (cause) =>
        reject(new AppError('host_unavailable', 'cannot run qemu-system-x86_64 for the lab', { cause })),
      );
      vmm.once('close', () => resolve());
    });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', kill);
  }
  return isTimedOut;
}
