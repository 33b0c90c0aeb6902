import { access, readdir, realpath } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { runProgram } from '@aviary/service-kit';
import type { Architecture } from './arguments.ts';
import { architectures } from './arguments.ts';

export interface QemuFiles {
  program: string;
  /** Everything that the program needs of the host to run: itself, its loader, libraries, modules and firmware. */
  files: string[];
  devices: string[];
}

/** Where distributions put what QEMU loads at its start. */
const moduleDirectories: Record<Architecture, readonly string[]> = {
  x64: ['/usr/lib/x86_64-linux-gnu/qemu', '/usr/lib/qemu', '/usr/lib64/qemu'],
  arm64: ['/usr/lib/aarch64-linux-gnu/qemu', '/usr/lib/qemu', '/usr/lib64/qemu'],
};
const programDirectories = ['/usr/local/bin', '/usr/bin'];
const devices = ['/dev/null', '/dev/urandom', '/dev/net/tun', '/dev/kvm'];

/** Finds this host's QEMU and what it needs. Throws `host_unavailable` when there is none. */
export async function findQemuFiles(architecture: Architecture): Promise<QemuFiles> {
  const name = architectures[architecture].program;
  const [program] = await existing(programDirectories.map((directory) => path.join(directory, name)));
  if (program === undefined)
    throw new AppError('host_unavailable', `cannot find ${name}; 'aviary doctor' names what is missing`);
  const modules = await findModules(architecture);
  const libraries = new Set<string>();
  for (const file of [program, ...modules]) {
    for (const library of parseLibraries((await runProgram('ldd', [file])).stdout)) libraries.add(library);
  }
  const { stdout } = await runProgram(program, ['-L', 'help']);
  const firmware = await existing(stdout.split('\n').filter(path.isAbsolute).map(path.normalize));
  return { program, files: [program, ...modules, ...libraries, ...firmware], devices: await existing(devices) };
}

/** Absolute paths in what ldd(1) prints: libraries, and the loader. */
export function parseLibraries(text: string): string[] {
  return [...text.matchAll(/^\t(?:\S+ => )?(\/\S+) \(0x[0-9a-f]+\)$/gm)].map(([, file = '']) => file);
}

/** The accelerators; everything else that comes as a module, this driver does without. */
async function findModules(architecture: Architecture): Promise<string[]> {
  const suffix = `-${architectures[architecture].program.replace('qemu-system-', '')}.so`;
  const found: string[] = [];
  for (const directory of moduleDirectories[architecture]) {
    const names = await readdir(directory).catch(() => []);
    found.push(
      ...names
        .filter((each) => each.startsWith('accel-') && each.endsWith(suffix))
        .map((each) => path.join(directory, each)),
    );
  }
  return found;
}

/** Those of `files` that exist, each once. */
async function existing(files: readonly string[]): Promise<string[]> {
  const found = new Map<string, string>();
  for (const file of files) {
    const isThere = await access(file).then(
      () => true,
      () => false,
    );
    if (isThere) found.set(await realpath(file), file);
  }
  return [...found.values()];
}
