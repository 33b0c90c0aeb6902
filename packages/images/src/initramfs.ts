import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { hashFile, publishFile, runStep, type StepContext, type StepOutput } from './build-step.ts';
import { type CpioEntry, cpioArchive } from './cpio.ts';
import type { HostFiles } from './host-files.ts';
import type { KernelOutput } from './kernel.ts';
import { collectModules, type KernelModule, modulesDep } from './kernel-modules.ts';
import { type Architecture, bootModules, deviceNodes, optionalModules, recipeVersions } from './recipe.ts';

const initSource = path.join(import.meta.dirname, '../guest/init');

export interface InitramfsInputs {
  kernel: KernelOutput;
  architecture: Architecture;
  files: Pick<HostFiles, 'busybox'>;
}

/** The first file system of every guest: busybox, the kernel modules that the drives need, and /init. Not compressed: a guest on a software CPU would inflate it slowly. */
export async function buildInitramfs(context: StepContext, inputs: InitramfsInputs): Promise<StepOutput> {
  const { kernel, architecture, files } = inputs;
  const init = (await readFile(initSource, 'utf8')).replaceAll('@LOADER@', architecture.loader);
  return await runStep(context, {
    step: 'initramfs',
    detail: 'initramfs',
    inputs: {
      recipe: recipeVersions.initramfs,
      kernel: kernel.id,
      init,
      busybox: await hashFile(files.busybox),
      modules: [bootModules, optionalModules],
      deviceNodes,
    },
    build: async (work) => {
      const busybox = await readFile(files.busybox);
      requireStatic(busybox, files.busybox);
      const modules = await collectModules({
        directory: kernel.modulesDirectory,
        required: bootModules,
        optional: optionalModules,
      });
      const archive = cpioArchive(initramfsEntries({ init, busybox, release: kernel.release, modules }));
      const id = createHash('sha256').update(archive).digest('hex');
      const file = path.join(work, 'initramfs.cpio');
      await writeFile(file, archive);
      const target = context.layout.initramfs(id);
      await publishFile(file, target);
      return { id, path: target };
    },
  });
}

function initramfsEntries(content: {
  init: string;
  busybox: Buffer;
  release: string;
  modules: readonly KernelModule[];
}): readonly CpioEntry[] {
  const { init, busybox, release, modules } = content;
  const directories = [
    'bin',
    'dev',
    'dev-static',
    'dev-static/mapper',
    'dev-static/net',
    'etc',
    'lib',
    'lib/modules',
    `lib/modules/${release}`,
    'proc',
    'root',
    'sys',
  ];
  const wanted = [...bootModules, ...optionalModules].filter((name) => modules.some((module) => module.name === name));
  return [
    ...directories.map((directory): CpioEntry => ({ path: directory, type: 'directory' })),
    { path: 'init', type: 'file', content: init, mode: 0o755 },
    { path: 'bin/busybox', type: 'file', content: busybox, mode: 0o755 },
    // The kernel opens this for /init's messages before /dev is mounted.
    { path: 'dev/console', type: 'character-device', major: 5, minor: 1 },
    { path: 'dev-static/fd', type: 'link', target: '/proc/self/fd' },
    { path: 'dev-static/stdin', type: 'link', target: '/proc/self/fd/0' },
    { path: 'dev-static/stdout', type: 'link', target: '/proc/self/fd/1' },
    { path: 'dev-static/stderr', type: 'link', target: '/proc/self/fd/2' },
    ...deviceNodes.map((node): CpioEntry => ({ ...node, path: `dev-static/${node.path}`, type: 'character-device' })),
    { path: 'etc/modules', type: 'file', content: `${wanted.join(' ')}\n` },
    { path: `lib/modules/${release}/modules.dep`, type: 'file', content: modulesDep(modules) },
    ...modules.map(
      ({ name, content: module }): CpioEntry => ({
        path: `lib/modules/${release}/${name}.ko`,
        type: 'file',
        content: module,
      }),
    ),
  ];
}

/** A program that names a dynamic loader (ELF program header PT_INTERP) cannot run before a root file system is there. */
function requireStatic(program: Buffer, file: string): void {
  const headersAt = Number(program.readBigUInt64LE(32));
  const size = program.readUInt16LE(54);
  const count = program.readUInt16LE(56);
  for (let index = 0; index < count; index++) {
    if (program.readUInt32LE(headersAt + index * size) === 3) {
      throw new AppError('invalid_state', `${file} is not a static busybox: install the package busybox-static`);
    }
  }
}
