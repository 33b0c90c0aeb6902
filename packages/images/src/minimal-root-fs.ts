import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { BootstrapProgress } from './bootstrap-progress.ts';
import { publishFile, runStep, type StepContext, type StepOutput } from './build-step.ts';
import { minimalRootFs, recipeVersions } from './recipe.ts';

const bootstrapTimeoutMs = 30 * 60_000;
const formatTimeoutMs = 10 * 60_000;
/** Of the step's time, the part that the bootstrap takes; the rest writes the file system. */
const bootstrapShare = 0.93;

/**
 * The root file system of the built-in template `minimal`: Debian with the usual tools and an account for the sandbox's
 * user. mkfs fills the image, so nothing is ever mounted. Each build has an id of its own: two builds differ, and a disk
 * layer fits only the one that it was made on.
 */
export async function buildMinimalRootFs(context: StepContext, { isRoot }: { isRoot: boolean }): Promise<StepOutput> {
  return await runStep(context, {
    step: 'minimal',
    detail: `root file system (Debian ${minimalRootFs.suite})`,
    inputs: { recipe: recipeVersions.minimal, rootFs: minimalRootFs, fileSystem: fileSystemOptions },
    followsPackages: true,
    build: async (work) => {
      if (!isRoot) {
        throw new AppError('forbidden', 'cannot make the root file system: its files belong to root; run this as root');
      }
      const root = path.join(work, 'root');
      await bootstrap(context, root);
      context.progress.working('minimal', 'adding the user account', bootstrapShare);
      await addUser(context, root);
      await settleFiles(root);
      const image = path.join(work, 'rootfs.ext4');
      context.progress.working('minimal', 'writing the file system', bootstrapShare);
      await writeFile(image, '');
      await truncate(image, minimalRootFs.sizeMib * 1024 * 1024);
      await context.run('mkfs.ext4', [...fileSystemOptions, '-d', root, image], {
        signal: context.signal,
        timeoutMs: formatTimeoutMs,
      });
      const id = randomUUID();
      const target = context.layout.minimalRootFs(id);
      await publishFile(image, target);
      return { id, path: target };
    },
  });
}

/**
 * Inode tables and the journal are complete from the start: a guest that finished them lazily would write tens of MiB into
 * every sandbox's own layer. A small journal for the same reason. 5 % stays reserved for root, so that a user who fills
 * the disk does not stop the agent.
 */
const fileSystemOptions = [
  ...['-q', '-F', '-m', '5', '-L', 'aviary-root', '-J', 'size=32'],
  ...['-E', 'lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0'],
];

/** Unpacks and configures the packages. Its mounts and processes live in namespaces that end with it, or with this process. */
async function bootstrap({ run, signal, progress }: StepContext, root: string): Promise<void> {
  const { suite, packages } = minimalRootFs;
  const isolated = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--'];
  const include = `--include=${packages.join(',')}`;
  const told = new BootstrapProgress(({ detail, done }) => progress.working('minimal', detail, done * bootstrapShare));
  const onOutput = (text: string) => told.read(text);
  const options = { signal, timeoutMs: bootstrapTimeoutMs, onOutput };
  const hasMmdebstrap = await isInstalled(run, 'mmdebstrap');
  const command = hasMmdebstrap
    ? ['mmdebstrap', '--verbose', '--mode=root', '--variant=minbase', include, suite, root]
    : ['debootstrap', '--variant=minbase', include, suite, root];
  await run('unshare', [...isolated, ...command], options);
}

async function isInstalled(run: StepContext['run'], program: string): Promise<boolean> {
  const { exitCode } = await run('which', [program], { okExitCodes: [0, 1] });
  return exitCode === 0;
}

async function addUser({ run, signal }: StepContext, root: string): Promise<void> {
  const { name, uid, home, shell } = minimalRootFs.user;
  const account = ['--create-home', '--home-dir', home, '--uid', String(uid), '--shell', shell, name];
  await run('chroot', [root, 'useradd', ...account], { signal });
  const sudoers = path.join(root, 'etc/sudoers.d', name);
  await writeFile(sudoers, `${name} ALL=(ALL:ALL) NOPASSWD: ALL\n`, { mode: 0o440 });
  await run('chroot', [root, 'visudo', '--check', '--quiet'], { signal });
}

/** What belongs to one machine, or to its build, is not part of a template. */
async function settleFiles(root: string): Promise<void> {
  const { hostname } = minimalRootFs;
  await writeFile(path.join(root, 'etc/hostname'), `${hostname}\n`);
  await writeFile(
    path.join(root, 'etc/hosts'),
    `127.0.0.1 localhost\n127.0.1.1 ${hostname}\n::1 localhost ip6-localhost ip6-loopback\n`,
  );
  await writeFile(path.join(root, 'etc/default/locale'), 'LANG=C.UTF-8\n');
  await writeFile(path.join(root, 'etc/machine-id'), '');
  // The whole system is one user's environment: pip need not protect it from being changed outside of apt.
  await writeFile(path.join(root, 'etc/pip.conf'), '[global]\nbreak-system-packages = true\n');
  for (const leftover of ['etc/resolv.conf', 'var/lib/dbus/machine-id'])
    await rm(path.join(root, leftover), { force: true });
  for (const directory of ['var/cache/apt', 'var/lib/apt/lists', 'var/log', 'tmp', 'var/tmp']) {
    await emptyDirectory(path.join(root, directory));
  }
  await mkdir(path.join(root, '.aviary'), { mode: 0o755 });
}

/** Removes files but keeps directories with their owners: apt and others expect theirs. */
async function emptyDirectory(directory: string): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries)
    if (!entry.isDirectory()) await rm(path.join(entry.parentPath, entry.name), { force: true });
}
