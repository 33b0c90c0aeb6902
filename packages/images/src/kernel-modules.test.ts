import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { collectModules, moduleDependencies, modulesDep } from './kernel-modules.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-modules-'));
  await mkdir(path.join(directory, 'kernel'));
  await writeFile(path.join(directory, 'modules.builtin'), 'kernel/fs/ext4/ext4.ko\nkernel/lib/crc16.ko\n');
  await addModule('virtio_ring', '');
  await addModule('virtio', 'virtio_ring');
  await addModule('virtio-rng', 'virtio,virtio_ring,crc16');
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const addModule = (name: string, depends: string) =>
  writeFile(path.join(directory, 'kernel', `${name}.ko`), `ELF\0license=GPL\0depends=${depends}\0name=${name}\0`);
const collect = (required: readonly string[], optional: readonly string[] = []) =>
  collectModules({
    directory,
    required,
    optional,
  });

test('modules come with what they depend on, dependencies first, without what is built in', async () => {
  const modules = await collect(['virtio_rng', 'ext4'], ['not_there']);
  expect(modules.map(({ name }) => name)).toEqual(['virtio_ring', 'virtio', 'virtio_rng']);
});

test('a required module that the kernel lacks is named', async () => {
  await expect(collect(['squashfs'])).rejects.toMatchObject({
    code: 'integrity',
    message: expect.stringContaining('squashfs'),
  });
});

test('modules.dep puts what is loaded first at the end of a line, also when two modules need it', async () => {
  const text = modulesDep(await collect(['virtio_rng']));
  expect(text).toBe('virtio_ring.ko:\nvirtio.ko: virtio_ring.ko\nvirtio_rng.ko: virtio.ko virtio_ring.ko\n');
});

test('dependencies are read from .modinfo, spelled with underscores', () => {
  expect(moduleDependencies(Buffer.from('x\0depends=net-failover,virtio\0y'))).toEqual(['net_failover', 'virtio']);
  expect(moduleDependencies(Buffer.from('x\0depends=\0y'))).toEqual([]);
  expect(moduleDependencies(Buffer.from('no such field'))).toEqual([]);
});
