import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { FileLock } from '@aviary/linux/file-lock';
import { runProgram } from '@aviary/service-kit';
import { prepareDrives } from './drives.ts';
import { type LabRun, runMachine } from './machine.ts';
import { labMachine } from './recipe.ts';

export interface LabOptions {
  /** The repository whose tests run. */
  root: string;
  /** A data directory with built guest images. */
  imagesFrom: string;
  /** Arguments for Vitest in the lab: files, `-t NAME`. None: every `.lab.test.ts`. */
  vitestArguments: readonly string[];
  /** Longest life of the machine. */
  timeoutMs: number;
  /** What the tests print, as it comes. */
  onOutput: (text: string) => void;
  note: (text: string) => void;
  signal: AbortSignal;
}

/** What the lab takes of the machine's memory, and what must be left beside it. */
const neededMemoryMib = labMachine.memoryMib + 2_048;

/** Why this machine cannot run the lab; undefined when it can. */
export async function whyNoLab(signal: AbortSignal): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'the lab needs root to make its file systems';
  if (process.arch !== 'x64') return 'the lab emulates an x86-64 processor with virtualization, on x86-64 only';
  const memoryMib = Math.floor(os.totalmem() / 1024 ** 2);
  if (memoryMib < neededMemoryMib)
    return `the lab needs ${neededMemoryMib} MiB of memory; this machine has ${memoryMib}`;
  if (!(await emulatesVirtualization(signal)))
    return 'the QEMU of this machine emulates no processor with virtualization';
  return undefined;
}

/** Makes a machine with the feature that /dev/kvm inside needs, and asks it to end. */
async function emulatesVirtualization(signal: AbortSignal): Promise<boolean> {
  const machine = ['-M', 'q35', '-accel', 'tcg', '-cpu', 'qemu64,+svm,+npt,enforce', '-S', '-nodefaults', '-nographic'];
  const input = '{ "execute": "qmp_capabilities" } { "execute": "quit" }';
  return await runProgram('qemu-system-x86_64', [...machine, '-qmp', 'stdio'], { input, signal }).then(
    () => true,
    () => false,
  );
}

/** Time that the lab needs after its tests to hand over their results and end. */
const endTimeMs = 20_000;
const consoleLines = 40;
/** Where the lab finds the repository, see `lab/init`. */
const inside = '/aviary';

/**
 * Boots the lab, a Debian on an emulated processor with a real /dev/kvm, device-mapper and a unified cgroup tree, runs
 * this checkout's `.lab.test.ts` files in it and resolves with Vitest's exit code. Makes what the lab consists of first, when it is missing; that needs
 * root. One lab per checkout at a time; another waits. On failure the kernel's messages and Vitest's report stay in `.cache/lab`.
 */
export async function runLab(options: LabOptions): Promise<number> {
  const { root, timeoutMs, note, onOutput, signal } = options;
  const cacheDirectory = path.join(root, '.cache/lab');
  await mkdir(cacheDirectory, { recursive: true });
  const onWait = () => note('another lab of this checkout is at work; waiting for its end …');
  using _lock = await FileLock.acquire(path.join(cacheDirectory, 'lock'), { timeoutMs: Infinity, signal, onWait });
  const runDirectory = await mkdtemp(path.join(cacheDirectory, 'run-'));
  try {
    const startedAt = performance.now();
    const drives = await prepareDrives({
      ...{ root, inside, cacheDirectory, runDirectory, imagesFrom: options.imagesFrom, note, signal },
      command: vitestCommand(options.vitestArguments),
      environment: {
        AVIARY_LAB: '1',
        AVIARY_TEST_DATA_DIR: '/data/test-data',
        AVIARY_PREBUILT_IMAGES: '1',
        NODE_COMPILE_CACHE: '/data/compile-cache',
        LAB_TIMEOUT_SEC: String(Math.floor((timeoutMs - endTimeMs) / 1_000)),
        PATH: `${inside}/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      },
    });
    const builtAt = performance.now();
    note(`lab ready in ${seconds(builtAt - startedAt)}, starting it …`);
    const run = await runMachine({ ...drives, runDirectory, timeoutMs, signal, onOutput });
    note(`the lab ran for ${seconds(performance.now() - builtAt)}`);
    await writeFile(path.join(cacheDirectory, 'console.log'), run.console);
    await writeFile(path.join(cacheDirectory, 'resets.log'), run.resets);
    await writeFile(path.join(cacheDirectory, 'results.json'), run.results);
    if (run.exitCode === 0) return 0;
    note(reasonOf(run, timeoutMs));
    note(run.console.trim().split('\n').slice(-consoleLines).join('\n'));
    note(`kept in ${cacheDirectory}: console.log, resets.log, results.json`);
    return run.exitCode ?? 1;
  } finally {
    await rm(runDirectory, { recursive: true, force: true });
  }
}

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;

function reasonOf({ exitCode, isTimedOut, end }: LabRun, timeoutMs: number): string {
  if (isTimedOut) return `the lab did not end within ${seconds(timeoutMs)}`;
  if (exitCode === undefined) return `the lab ended without a result (${end}); its kernel said:`;
  // timeout(1) in the lab
  return exitCode === 124 || exitCode === 137 ? 'the tests in the lab did not end in time' : 'tests failed in the lab';
}

function vitestCommand(extra: readonly string[]): string[] {
  return [
    ...['node', '--disable-warning=ExperimentalWarning', `${inside}/node_modules/vitest/vitest.mjs`, 'run'],
    ...['--project', 'lab', '--reporter=verbose', '--reporter=json', '--outputFile.json=/run/lab-results.json'],
    ...extra,
  ];
}
