import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { AppError, must } from '@aviary/core';
import { publishDirectory, publishFile, runStep, type StepContext, type StepOutput } from './build-step.ts';
import { type Architecture, minimalRootFs, recipeVersions } from './recipe.ts';

/** The guest kernel and all of its modules. Nothing of it is installed on this machine. */
export interface KernelOutput extends StepOutput {
  /** As `uname -r` says it in the guest. */
  release: string;
  /** What `/lib/modules/RELEASE` is in a guest: plain modules and depmod's indexes. */
  modulesDirectory: string;
}

const downloadTimeoutMs = 10 * 60_000;
const unpackTimeoutMs = 5 * 60_000;

export async function buildKernel(context: StepContext, architecture: Architecture): Promise<KernelOutput> {
  const output = await runStep(context, {
    step: 'kernel',
    detail: `guest kernel (${architecture.kernelPackage})`,
    inputs: { recipe: recipeVersions.kernel, package: architecture.kernelPackage },
    followsPackages: true,
    build: (workDirectory) => makeKernel(context, architecture, workDirectory),
  });
  const release = must(output.id.split('_')[0], 'a kernel id starts with the release');
  return { ...output, release, modulesDirectory: context.layout.kernelModules(output.id) };
}

async function makeKernel(context: StepContext, architecture: Architecture, work: string): Promise<StepOutput> {
  const { run, layout, signal, progress } = context;
  const packagePath = await downloadKernel(context, architecture, work);
  progress.working('kernel', `unpacking ${path.basename(packagePath)}`);
  const version = (await run('dpkg-deb', ['--field', packagePath, 'Version'], { signal })).stdout.trim();
  const unpacked = path.join(work, 'unpacked');
  await run('dpkg-deb', ['--extract', packagePath, unpacked], { signal, timeoutMs: unpackTimeoutMs });
  const [release, ...others] = await readdir(path.join(unpacked, 'lib/modules'));
  if (release === undefined || others.length > 0)
    throw new AppError('integrity', `the kernel package ${packagePath} does not hold one kernel`);
  const id = `${release}_${version.replaceAll(/[^A-Za-z0-9.+~-]/g, '-')}`;
  await inflateModules(context, path.join(unpacked, 'lib/modules', release));
  await run('depmod', ['--basedir', unpacked, release], { signal });
  await publishDirectory(context, path.join(unpacked, 'lib/modules', release), layout.kernelModules(id));
  const target = path.join(layout.kernelDirectory(id), 'vmlinuz');
  await publishFile(path.join(unpacked, 'boot', `vmlinuz-${release}`), target);
  return { id, path: target };
}

/** Newer distributions pack each module. A guest's initramfs and modprobe want them plain, and the toolbox packs them again as a whole. */
async function inflateModules({ run, signal }: StepContext, directory: string): Promise<void> {
  const files = (await readdir(directory, { recursive: true })).map((file) => path.join(directory, file));
  for (const [suffix, program] of [
    ['.ko.xz', 'unxz'],
    ['.ko.zst', 'unzstd'],
  ] as const) {
    const packed = files.filter((file) => file.endsWith(suffix));
    const options = program === 'unzstd' ? ['--rm', '--quiet'] : ['--quiet'];
    if (packed.length > 0) await run(program, [...options, ...packed], { signal, timeoutMs: unpackTimeoutMs });
  }
}

interface PackageSource {
  /** Options that make apt use this source. */
  options: readonly string[];
  /** Makes the source's directories and reads its lists. */
  prepare: () => Promise<void>;
}

/**
 * Downloads the newest kernel package with this machine's package sources; with lists of its own when the machine has none
 * yet (that needs no root); from the root file system's distribution when the sources do not know the package.
 */
async function downloadKernel(context: StepContext, { kernelPackage }: Architecture, work: string): Promise<string> {
  const { run, signal, progress } = context;
  for (const { options, prepare } of packageSources(context, work)) {
    await prepare();
    const found = await run('apt-cache', [...options, 'depends', kernelPackage], { signal, okExitCodes: [0, 100] });
    const name = /^\s*\|?Depends: (linux-image-\d\S*)$/m.exec(found.stdout)?.[1];
    if (name === undefined) continue;
    progress.working('kernel', `downloading ${name}`);
    await run('apt-get', [...options, ...asCaller, '--quiet', 'download', name], {
      signal,
      cwd: work,
      timeoutMs: downloadTimeoutMs,
    });
    const file = (await readdir(work)).find((entry) => entry.startsWith(`${name}_`) && entry.endsWith('.deb'));
    return path.join(work, must(file, 'apt-get download leaves the package in the working directory'));
  }
  throw new AppError('not_found', `cannot find the kernel package ${kernelPackage} in any package source`);
}

/** Keeps apt from changing to its own user, who may not write here. */
const asCaller = ['-o', 'APT::Sandbox::User=root'];

function packageSources({ run, signal, progress }: StepContext, work: string): readonly PackageSource[] {
  const update = async (options: readonly string[]) => {
    progress.working('kernel', 'reading package lists');
    await run('apt-get', [...options, ...asCaller, '--quiet', 'update'], { signal, timeoutMs: downloadTimeoutMs });
  };
  const lists = path.join(work, 'apt');
  const ownLists = ['-o', `Dir::State::lists=${lists}/lists`, '-o', `Dir::Cache=${lists}/cache`];
  const skeleton = path.join(work, 'debian');
  const debian = ['-o', `Dir=${skeleton}`];
  return [
    { options: [], prepare: async () => undefined },
    {
      options: ownLists,
      prepare: async () => {
        await mkdir(path.join(lists, 'lists/partial'), { recursive: true });
        await mkdir(path.join(lists, 'cache/archives/partial'), { recursive: true });
        await update(ownLists);
      },
    },
    {
      options: debian,
      prepare: async () => {
        // A dry run into a directory leaves the distribution's package sources there, and nothing else.
        const args = ['--quiet', '--mode=root', '--simulate', '--variant=custom', minimalRootFs.suite, skeleton];
        await run('mmdebstrap', args, { signal, timeoutMs: downloadTimeoutMs });
        await update(debian);
      },
    },
  ];
}
