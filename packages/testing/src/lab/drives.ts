import { existsSync } from 'node:fs';
import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { must } from '@aviary/core';
import { collectModules, cpioArchive, type ImageSet, loadImages, modulesDep } from '@aviary/images';
import { type RunProgramOptions, runProgram } from '@aviary/service-kit';
import { entryPatterns, writeBundles } from './bundles.ts';
import { cachedFile } from './cached-file.ts';
import { bootModules, dataSizeMib, labRoot, rootRecipeVersion, unneededPackages } from './recipe.ts';

/** What the lab boots from and runs on; files on this machine. */
export interface LabDrives {
  kernel: string;
  initramfs: string;
  /** In the order in which the lab's /init looks for them. */
  drives: { root: string; data: string; sources: string; nodeModules: string };
}

export interface DriveOptions {
  /** The repository. */
  root: string;
  /** Where the lab has it. */
  inside: string;
  /** A data directory with built guest images. */
  imagesFrom: string;
  /** Holds what outlives a run. */
  cacheDirectory: string;
  /** Holds what belongs to this run. */
  runDirectory: string;
  /** Command line and environment of the tests, for the lab's `start`. */
  command: readonly string[];
  environment: Readonly<Record<string, string>>;
  note: (text: string) => void;
  signal: AbortSignal;
}

const buildTimeoutMs = 20 * 60_000;
const fixtures = path.join(import.meta.dirname, '../../lab');
const squashOptions = ['-noappend', '-quiet', '-no-progress', '-comp', 'lz4', '-no-xattrs', '-all-root'];

/** Makes what is missing or out of date. Needs root. */
export async function prepareDrives(options: DriveOptions): Promise<LabDrives> {
  const { imagesFrom } = options;
  const images = must(await loadImages(imagesFrom), `the guest images in ${imagesFrom} have been built`);
  return {
    kernel: images.kernel.path,
    initramfs: await makeInitramfs(options, images),
    drives: {
      root: await makeRoot(options),
      data: await makeData(options, images),
      sources: await packSources(options),
      nodeModules: await packNodeModules(options),
    },
  };
}

/** Programs die with this process, however it ends. */
function bound({ signal }: DriveOptions, file: string, args: readonly string[], options: RunProgramOptions = {}) {
  return runProgram('setpriv', ['--pdeathsig', 'KILL', '--', file, ...args], {
    signal,
    timeoutMs: buildTimeoutMs,
    ...options,
  });
}

const modulesOf = (images: ImageSet) => path.join(path.dirname(images.kernel.path), 'modules');

/** The lab boots the guests' own kernel, with the modules that its drives need. */
async function makeInitramfs({ runDirectory }: DriveOptions, images: ImageSet): Promise<string> {
  const release = must(images.kernel.version.split('_')[0], 'a version starts with the release');
  const modules = await collectModules({ directory: modulesOf(images), required: bootModules, optional: [] });
  const directories = ['bin', 'dev', 'etc', 'lib', 'lib/modules', `lib/modules/${release}`, 'proc', 'root', 'sys'];
  const file = path.join(runDirectory, 'initramfs.cpio');
  await writeFile(
    file,
    cpioArchive([
      ...directories.map((directory) => ({ path: directory, type: 'directory' as const })),
      { path: 'init', type: 'file', content: await readFile(path.join(fixtures, 'init')), mode: 0o755 },
      { path: 'bin/busybox', type: 'file', content: await readFile('/usr/bin/busybox'), mode: 0o755 },
      { path: 'dev/console', type: 'character-device', major: 5, minor: 1 },
      { path: 'etc/modules', type: 'file', content: `${bootModules.join(' ')}\n` },
      { path: `lib/modules/${release}/modules.dep`, type: 'file', content: modulesDep(modules) },
      ...modules.map(({ name, content }) => ({
        path: `lib/modules/${release}/${name}.ko`,
        type: 'file' as const,
        content,
      })),
    ]),
  );
  return file;
}

async function makeRoot(options: DriveOptions): Promise<string> {
  const { cacheDirectory, note } = options;
  return await cachedFile({
    directory: cacheDirectory,
    name: 'root',
    inputs: { labRoot, rootRecipeVersion },
    build: async ({ file, work }) => {
      note('building the lab’s root file system, once …');
      const root = path.join(work, 'root');
      const include = `--include=${labRoot.packages.join(',')}`;
      const isolated = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--'];
      const bootstrap = ['mmdebstrap', '--mode=root', '--variant=minbase', include, labRoot.suite, root];
      await bound(options, 'unshare', [...isolated, ...bootstrap]);
      const inRoot = (...command: readonly string[]) => bound(options, 'chroot', [root, ...command]);
      await inRoot('groupadd', '--force', '--system', 'kvm');
      await inRoot('useradd', '--create-home', '--shell', '/bin/bash', '--groups', 'kvm,sudo', labRoot.user);
      await writeFile(path.join(root, 'etc/sudoers.d/lab'), `${labRoot.user} ALL=(ALL:ALL) NOPASSWD: ALL\n`);
      await writeFile(path.join(root, 'etc/hosts'), '127.0.0.1 localhost lab\n');
      await makeFileSystem(options, { file, from: root, sizeMib: labRoot.sizeMib });
    },
  });
}

/** The guest images lie on the file system that tests work on: a data directory takes them by links. */
async function makeData(options: DriveOptions, images: ImageSet): Promise<string> {
  const { cacheDirectory, imagesFrom, note } = options;
  const source = path.join(imagesFrom, 'images');
  return await cachedFile({
    directory: cacheDirectory,
    name: 'data',
    inputs: [images, dataSizeMib],
    build: async ({ file, work }) => {
      note('packing the guest images for the lab …');
      const target = path.join(work, 'test-data/images');
      const parts = [images.kernel.path, images.initramfs.path, images.toolbox.path, images.minimal.rootfsPath];
      for (const part of [...parts, modulesOf(images), path.join(source, 'images.json'), path.join(source, 'steps')]) {
        const place = path.join(target, path.relative(source, part));
        await mkdir(path.dirname(place), { recursive: true });
        // Links where the file system allows them; the copy that counts is the next one.
        await bound(options, 'cp', ['-a', '--sparse=always', '--reflink=auto', part, place]);
      }
      await makeFileSystem(options, { file, from: work, sizeMib: dataSizeMib });
    },
  });
}

async function makeFileSystem(
  options: DriveOptions,
  { file, from, sizeMib }: { file: string; from: string; sizeMib: number },
): Promise<void> {
  await writeFile(file, '');
  await truncate(file, sizeMib * 1024 * 1024);
  await bound(options, 'mkfs.ext4', ['-q', '-F', '-m', '0', '-E', 'root_owner=0:0', '-d', from, file]);
}

/** The checkout as it is now, and bundles of its programs for the lab to lay over it. */
async function packSources(options: DriveOptions): Promise<string> {
  const { root, inside, runDirectory, command, environment } = options;
  const lab = path.join(runDirectory, '.lab');
  await mkdir(lab, { recursive: true });
  await writeFile(path.join(lab, 'arguments'), `${command.join('\n')}\n`);
  const settings = Object.entries(environment).map(([name, value]) => `export ${name}='${value}'\n`);
  await writeFile(path.join(lab, 'environment'), settings.join(''));
  await writeBundles({ root, entries: entryPatterns, inside, target: path.join(lab, 'bundles') });
  const file = path.join(runDirectory, 'sources.sqsh');
  const parts = ['apps', 'packages', 'scripts', 'package.json', 'tsconfig.json', 'vitest.config.ts'];
  await bound(options, 'mksquashfs', [...parts.map((part) => path.join(root, part)), lab, file, ...squashOptions]);
  return file;
}

async function packNodeModules(options: DriveOptions): Promise<string> {
  const { root, cacheDirectory, note } = options;
  const directory = path.join(root, 'node_modules');
  const record = path.join(directory, '.package-lock.json');
  const installed = existsSync(record)
    ? await readFile(record, 'utf8')
    : await readFile(`${root}/package-lock.json`, 'utf8');
  return await cachedFile({
    directory: cacheDirectory,
    name: 'node-modules',
    inputs: [installed, unneededPackages, squashOptions],
    build: async ({ file }) => {
      note('packing node_modules for the lab …');
      await bound(options, 'mksquashfs', [directory, file, ...squashOptions, '-wildcards', '-e', ...unneededPackages]);
    },
  });
}
