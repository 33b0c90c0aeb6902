import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { type ProgramResult, type RunProgramOptions, runProgram } from '@aviary/service-kit';
import { type Architecture, architectureFor } from './recipe.ts';

export type PackagePurpose = 'vmm' | 'images' | 'network';

/** A Debian or Ubuntu package that a host needs. It counts as present when every program in `programs` is there. */
export interface HostPackage {
  name: string;
  purpose: PackagePurpose;
  /** Program names, looked up in the system's directories, or absolute paths. */
  programs: readonly string[];
  /** Another program that does as well. */
  alternative?: string;
}

/** Everything that Aviary needs on a host besides Node, by purpose. */
export function hostPackages(architecture: Architecture = architectureFor()): readonly HostPackage[] {
  return [
    { name: architecture.qemuPackage, purpose: 'vmm', programs: [architecture.qemuProgram] },
    { name: 'qemu-utils', purpose: 'vmm', programs: ['qemu-img'] },
    { name: 'mmdebstrap', purpose: 'images', programs: ['mmdebstrap'], alternative: 'debootstrap' },
    { name: 'debian-archive-keyring', purpose: 'images', programs: ['/usr/share/keyrings/debian-archive-keyring.gpg'] },
    { name: 'busybox-static', purpose: 'images', programs: ['busybox'] },
    { name: 'tini', purpose: 'images', programs: ['tini-static'] },
    { name: 'squashfs-tools', purpose: 'images', programs: ['mksquashfs'] },
    { name: 'e2fsprogs', purpose: 'images', programs: ['mkfs.ext4', 'resize2fs'] },
    { name: 'kmod', purpose: 'images', programs: ['depmod'] },
    { name: 'xz-utils', purpose: 'images', programs: ['unxz'] },
    { name: 'util-linux', purpose: 'images', programs: ['setpriv', 'unshare'] },
    { name: 'iproute2', purpose: 'network', programs: ['ip'] },
    { name: 'nftables', purpose: 'network', programs: ['nft'] },
  ];
}

const programDirectories = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** True when `file`, an absolute path, can be used. */
export type FileProbe = (file: string) => Promise<boolean>;

const isReadable: FileProbe = (file) =>
  access(file, constants.R_OK).then(
    () => true,
    () => false,
  );

/** The packages of `purposes` (default: all) that this machine lacks. */
export async function missingHostPackages(
  { purposes }: { purposes?: readonly PackagePurpose[] } = {},
  probe: FileProbe = isReadable,
): Promise<readonly HostPackage[]> {
  const missing: HostPackage[] = [];
  for (const hostPackage of hostPackages()) {
    if (purposes && !purposes.includes(hostPackage.purpose)) continue;
    const isPresent =
      (await hasAll(hostPackage.programs, probe)) ||
      (hostPackage.alternative !== undefined && (await hasAll([hostPackage.alternative], probe)));
    if (!isPresent) missing.push(hostPackage);
  }
  return missing;
}

async function hasAll(programs: readonly string[], probe: FileProbe): Promise<boolean> {
  for (const program of programs) {
    const candidates = path.isAbsolute(program)
      ? [program]
      : programDirectories.map((directory) => path.join(directory, program));
    const found = await Promise.all(candidates.map((candidate) => probe(candidate)));
    if (!found.includes(true)) return false;
  }
  return true;
}

export interface InstallOptions {
  missing: readonly HostPackage[];
  onProgress?: (line: string) => void;
  signal?: AbortSignal;
}

/** The machine as the installer sees it. */
export interface InstallerDeps {
  run: (file: string, args: readonly string[], options?: RunProgramOptions) => Promise<ProgramResult>;
  isRoot: boolean;
  /** Asks the person at the terminal for sudo's password; false when nobody is there or it was refused. */
  askForSudo: () => Promise<boolean>;
  hasProgram: (program: string) => Promise<boolean>;
}

const installTimeoutMs = 30 * 60_000;

/**
 * Installs packages with apt-get: as root, or through sudo, which may ask at the terminal. Does nothing for an empty list.
 * Throws `forbidden` with the exact command when it may not, and `not_implemented` on a machine without apt-get.
 */
export async function installHostPackages(
  options: InstallOptions,
  deps: InstallerDeps = systemInstaller,
): Promise<void> {
  const { missing, onProgress = () => undefined, signal } = options;
  if (missing.length === 0) return;
  const names = missing.map(({ name }) => name);
  const details = { packages: names };
  if (!(await deps.hasProgram('apt-get'))) {
    throw new AppError(
      'not_implemented',
      `cannot install ${names.join(', ')}: this machine has no apt-get; install what provides ${missing.flatMap(({ programs }) => programs).join(', ')}`,
      { details },
    );
  }
  const prefix = await privilegePrefix(deps);
  if (!prefix) {
    throw new AppError(
      'forbidden',
      `cannot install packages without root: run 'apt-get install --no-install-recommends ${names.join(' ')}' as root, then try again`,
      { details },
    );
  }
  const apt = async (...args: readonly string[]) => {
    const [file = 'env', ...rest] = [
      ...prefix,
      'env',
      'DEBIAN_FRONTEND=noninteractive',
      'apt-get',
      ...aptOptions,
      ...args,
    ];
    await deps.run(file, rest, {
      timeoutMs: installTimeoutMs,
      onOutput: (text) => {
        for (const line of text.split('\n')) if (line.trim() !== '') onProgress(line.trim());
      },
      ...(signal ? { signal } : {}),
    });
  };
  onProgress(`installing ${names.join(', ')}`);
  let updateError: unknown;
  await apt('update').catch((error: unknown) => {
    updateError = error; // one unreachable source of several does not matter if the packages are found
  });
  try {
    await apt('install', '--yes', '--no-install-recommends', ...names);
  } catch (error) {
    const cause = updateError === undefined ? error : new AggregateError([updateError, error]);
    throw new AppError('internal', `cannot install ${names.join(', ')}: apt-get failed; run it by hand to see why`, {
      details,
      cause,
    });
  }
}

const aptOptions = ['--quiet', '-o', 'DPkg::Lock::Timeout=120'];

async function privilegePrefix(deps: InstallerDeps): Promise<readonly string[] | undefined> {
  if (deps.isRoot) return [];
  if (!(await deps.hasProgram('sudo'))) return undefined;
  const { exitCode } = await deps.run('sudo', ['-n', 'true'], { okExitCodes: [0, 1] });
  if (exitCode === 0 || (await deps.askForSudo())) return ['sudo', '-n'];
  return undefined;
}

const systemInstaller: InstallerDeps = {
  run: runProgram,
  isRoot: process.getuid?.() === 0,
  askForSudo: async () => {
    if (!process.stdin.isTTY) return false;
    return await new Promise((resolve) => {
      const child = spawn('sudo', ['--validate'], { stdio: 'inherit' });
      child.once('error', () => resolve(false));
      child.once('close', (code) => resolve(code === 0));
    });
  },
  hasProgram: (program) => hasAll([program], isReadable),
};
