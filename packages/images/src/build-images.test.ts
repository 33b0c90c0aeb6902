import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { FileLock } from '@aviary/linux/file-lock';
import { FaultPoints } from '@aviary/service-kit';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type BuildImagesDeps, buildImages } from './build-images.ts';
import type { HostFiles } from './host-files.ts';
import { loadImages } from './image-set.ts';
import { imagesLayout } from './layout.ts';
import type { ProgramRunner } from './program-runner.ts';
import type { ImageProgress } from './progress.ts';

const loader = process.arch === 'arm64' ? 'ld-linux-aarch64.so.1' : 'ld-linux-x86-64.so.2';
let directory: string;
let dataDir: string;
let agent: string;
let files: HostFiles;
let programs: string[];

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-build-'));
  dataDir = path.join(directory, 'data');
  agent = path.join(directory, 'agent.ts');
  programs = [];
  await writeFile(agent, 'console.log("first agent" as string);');
  const file = async (name: string, content: string | Buffer) => {
    await writeFile(path.join(directory, name), content);
    return path.join(directory, name);
  };
  files = {
    node: await file('node', 'node'),
    // A 64-bit ELF header without program headers: static, as far as headers tell.
    busybox: await file('busybox', Buffer.concat([Buffer.from('\x7fELF'), Buffer.alloc(60)])),
    tini: await file('tini', 'tini'),
    resize2fs: await file('resize2fs', 'resize2fs'),
  };
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** Leaves the files that the real programs would leave, and notes what ran. */
const run: ProgramRunner = async (program, args, options) => {
  programs.push(program);
  const answer = (stdout = '') => ({ stdout, stderr: '', exitCode: 0 });
  const place = async (file: string, content: string) => {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, content);
  };
  switch (program) {
    case 'apt-cache':
      return answer('linux-image-cloud\n  Depends: linux-image-6.1.0-9-cloud\n');
    case 'apt-get':
      await place(path.join(options?.cwd ?? '', 'linux-image-6.1.0-9-cloud_6.1.9-1_all.deb'), 'package');
      return answer();
    case 'dpkg-deb': {
      if (args[0] === '--field') return answer('6.1.9-1\n');
      const root = args[2] ?? '';
      const modules = path.join(root, 'lib/modules/6.1.0-9-cloud');
      await place(path.join(root, 'boot/vmlinuz-6.1.0-9-cloud'), 'kernel');
      await place(path.join(modules, 'modules.builtin'), 'kernel/fs/squashfs/squashfs.ko\n');
      for (const name of ['virtio_mmio', 'virtio_blk', 'virtio_net'])
        await place(path.join(modules, `kernel/${name}.ko`), `\0depends=\0${name}`);
      return answer();
    }
    case 'ldd':
      await place(path.join(directory, loader), 'loader');
      return answer(`\t${path.join(directory, loader)} (0x00007f00)\n`);
    case 'mksquashfs': {
      const [root = '', image = ''] = args;
      await place(image, await readFile(path.join(root, 'agent/main.mjs'), 'utf8'));
      return answer();
    }
    case 'unshare': {
      const root = args.at(-1) ?? '';
      for (const name of ['etc/default', 'etc/sudoers.d', 'var/cache/apt'])
        await mkdir(path.join(root, name), { recursive: true });
      await writeFile(path.join(root, 'var/cache/apt/pkgcache.bin'), 'cache');
      return answer();
    }
    default:
      return answer();
  }
};

interface BuildOptions extends Partial<BuildImagesDeps> {
  refresh?: boolean;
  signal?: AbortSignal;
  /** Called when it waits for another builder. */
  onWait?: () => void;
}

function build({ faults = new FaultPoints(), refresh = false, signal, onWait, ...deps }: BuildOptions = {}) {
  const progress: ImageProgress[] = [];
  const onProgress = (each: ImageProgress) => {
    progress.push(each);
    if (each.type === 'waiting') onWait?.();
  };
  const result = buildImages(
    { dataDir, guestAgentEntry: agent, onProgress, refresh, ...(signal ? { signal } : {}) },
    { run, hostFiles: async () => files, missingPackages: async () => [], isRoot: true, faults, ...deps },
  );
  return { result, progress };
}
const built = (progress: readonly ImageProgress[]) =>
  progress.flatMap((each) => (each.type === 'finished' && !each.isCached ? [each.step] : [])).sort();

test('missing packages are named before anything is made', async () => {
  const missing = [{ name: 'squashfs-tools', purpose: 'images' as const, programs: ['mksquashfs'] }];
  await expect(build({ missingPackages: async () => missing }).result).rejects.toMatchObject({
    code: 'invalid_state',
    message: expect.stringContaining('squashfs-tools'),
  });
  expect(existsSync(dataDir)).toBe(false);
});

test('a build leaves a loadable set and no temporary files', async () => {
  const { result, progress } = build();
  const images = await result;
  expect(await loadImages(dataDir)).toEqual(images);
  expect(images.kernel.version).toBe('6.1.0-9-cloud_6.1.9-1');
  expect(built(progress)).toEqual(['initramfs', 'kernel', 'minimal', 'toolbox']);
  expect(progress.at(-1)).toMatchObject({ type: 'finished', fraction: expect.closeTo(1) });
  const fractions = progress.flatMap((each) => (each.type === 'waiting' ? [] : [each.fraction]));
  expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
  expect(existsSync(imagesLayout(dataDir).temporary)).toBe(false);
});

test('a second build runs no program that makes something', async () => {
  const images = await build().result;
  programs = [];
  const { result, progress } = build();
  expect(await result).toEqual(images);
  expect(built(progress)).toEqual([]);
  expect(new Set(programs)).toEqual(new Set(['ldd']));
});

test('another agent makes only another toolbox, and the old one stays', async () => {
  const before = await build().result;
  await writeFile(agent, 'console.log("second agent");');
  const { result, progress } = build();
  const after = await result;
  expect(built(progress)).toEqual(['toolbox']);
  expect(after.toolbox.id).not.toBe(before.toolbox.id);
  expect(existsSync(before.toolbox.path)).toBe(true);
  expect(after.minimal).toEqual(before.minimal);
});

test('a damaged part is made again, the others are kept', async () => {
  const before = await build().result;
  await truncate(before.initramfs.path, 10);
  const { result, progress } = build();
  expect((await result).initramfs).toEqual(before.initramfs);
  expect(built(progress)).toEqual(['initramfs']);
});

test('refresh makes new kernel and root file system and keeps the old root file system', async () => {
  const before = await build().result;
  const { result, progress } = build({ refresh: true });
  const after = await result;
  expect(built(progress)).toEqual(['kernel', 'minimal']);
  expect(after.minimal.id).not.toBe(before.minimal.id);
  expect(existsSync(before.minimal.rootfsPath)).toBe(true);
});

test('a build that failed before the descriptor leaves none, and the next one goes on', async () => {
  const faults = new FaultPoints('images.before-descriptor:throw');
  await expect(build({ faults }).result).rejects.toThrow('fault injected');
  expect(await loadImages(dataDir)).toBeUndefined();
  const { result, progress } = build();
  await result;
  expect(built(progress)).toEqual([]);
});

test('a failing part stops the other and is the error', async () => {
  const failing: ProgramRunner = async (program, args, options) => {
    if (program === 'mksquashfs') throw new Error('no space left');
    return await run(program, args, options);
  };
  await expect(build({ run: failing }).result).rejects.toThrow('no space left');
  expect(await loadImages(dataDir)).toBeUndefined();
  expect((await readdir(imagesLayout(dataDir).root)).filter((name) => name.startsWith('toolbox-'))).toEqual([]);
});

test('without root the root file system is refused, and what was made before stays', async () => {
  await expect(build({ isRoot: false }).result).rejects.toMatchObject({ code: 'forbidden' });
  expect(await loadImages(dataDir)).toBeUndefined();
});

test('a builder waits for another one, and stops waiting when aborted', async () => {
  const { lock, root } = imagesLayout(dataDir);
  await mkdir(root, { recursive: true });
  const other = FileLock.tryAcquire(lock);
  const abort = new AbortController();
  const given = build({ signal: abort.signal, onWait: () => abort.abort(new Error('enough')) });
  await expect(given.result).rejects.toThrow('enough');
  expect(programs).toEqual([]);
  await build({ onWait: () => other?.release() }).result;
  expect(await loadImages(dataDir)).toBeDefined();
});
