import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { runProgram, waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type DiskStoreSubject, describeDiskStore } from './describe-disk-store.ts';
import type { DiskLayer } from './disk-store.ts';
import { Qcow2DiskStore } from './qcow2-disk-store.ts';
import { emptyImage } from './qcow2-header.ts';

const mib = 1024 * 1024;

const newDirectory = () => mkdtemp(path.join(tmpdir(), 'aviary-disk-'));

async function setUp(): Promise<DiskStoreSubject> {
  const directory = await newDirectory();
  const store = new Qcow2DiskStore({ dataDir: directory });
  const access = async (
    verb: string,
    { path: file, format }: DiskLayer,
    range: { offset: number; length: number; fill: number },
  ) => {
    const command = `${verb} -P ${range.fill} ${range.offset} ${range.length}`;
    const { stdout } = await runProgram('qemu-io', ['-f', format, '-c', command, file]);
    if (!/^(wrote|read) /.test(stdout.trim()) || stdout.includes('failed')) throw new Error(`${command}: ${stdout}`);
  };
  return {
    store,
    directory,
    async makeBase({ sizeMib, fill }) {
      const file = path.join(directory, `base-${sizeMib}-${fill}.raw`);
      await writeFile(file, Buffer.alloc(sizeMib * mib, fill));
      return { path: file, format: 'raw' };
    },
    write: (layer, range) => access('write', layer, range),
    expectBytes: (layer, range) => access('read', layer, range),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true }),
  };
}

describe('qcow2', () => {
  describeDiskStore('qcow2', setUp);

  let directory: string;
  let store: Qcow2DiskStore;
  let base: DiskLayer;
  const at = (name: string) => path.join(directory, name);
  const create = (name: string, on: DiskLayer = base, sizeMib = 64) =>
    store.createLayer({ path: at(name), base: on, sizeMib, uid: 12_345 });

  beforeAll(async () => {
    directory = await newDirectory();
    store = new Qcow2DiskStore({ dataDir: directory, maxLayers: 6 });
    base = { path: at('base.raw'), format: 'raw' };
    await writeFile(base.path, Buffer.alloc(2 * mib, 0xb0));
  });
  afterAll(() => rm(directory, { recursive: true }));

  test.each([2, 64, 1_023, 1_025, 5_120, 1_048_576])(
    'qemu-img finds nothing wrong with a layer of %i MiB and reads the same from its header',
    async (sizeMib) => {
      const layer = await create(`size-${sizeMib}.qcow2`, base, sizeMib);
      await runProgram('qemu-img', ['check', '-f', 'qcow2', layer.path]);
      const { stdout } = await runProgram('qemu-img', ['info', '-f', 'qcow2', '--output=json', layer.path]);
      expect(JSON.parse(stdout)).toMatchObject({
        'virtual-size': sizeMib * mib,
        'cluster-size': 131_072,
        'backing-filename': base.path,
        'backing-filename-format': 'raw',
        'dirty-flag': false,
        'format-specific': { data: { 'extended-l2': true, 'lazy-refcounts': false, corrupt: false } },
      });
      await runProgram('qemu-io', ['-f', 'qcow2', '-c', `write -P 7 ${(sizeMib - 1) * mib} 4k`, layer.path]);
      await runProgram('qemu-img', ['check', '-f', 'qcow2', layer.path]);
    },
  );

  test('reads chains that qemu-img made', async () => {
    const file = at('foreign.qcow2');
    await runProgram('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base.path, '-F', 'raw', file, '3M']);
    const layer = { path: file, format: 'qcow2' } as const;
    expect(await store.chain(layer)).toEqual([base]);
    expect(await store.virtualSizeMib(layer)).toBe(3);
    await runProgram('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', at('old.qcow2'), '3M']);
    expect(await store.chain({ path: at('old.qcow2'), format: 'qcow2' })).toEqual([]);
  });

  /** A layer whose header says that `name` is its base. */
  async function forge(file: string, name: string, format: 'raw' | 'qcow2' = 'raw'): Promise<DiskLayer> {
    const { parts } = emptyImage({ virtualBytes: 64 * mib, backing: { name, format } });
    await writeFile(at(file), parts[0]?.data ?? '');
    return { path: at(file), format: 'qcow2' };
  }

  test.each([
    ['a file outside', '/etc/shadow'],
    ['a path that climbs out', '{}/../../etc/shadow'],
    ['a relative name', 'base.raw'],
    ['a network address', 'nbd://127.0.0.1:10809'],
    ['a driver description', 'json:{"driver":"raw","file":{"filename":"/etc/shadow"}}'],
    ['a device', '/dev/vda'],
    ['a link in the directory that leads outside', '{}/link'],
    ['a linked directory that leads outside', '{}/outside/shadow'],
  ])('refuses a layer whose header names %s as its base', async (_what, name) => {
    await symlink('/etc/shadow', at('link')).catch(ignoreExisting);
    await symlink('/etc', at('outside')).catch(ignoreExisting);
    const layer = await forge('forged.qcow2', name.replace('{}', directory));
    await expect(store.chain(layer)).rejects.toMatchObject({ code: 'integrity' });
    await expect(create('on-forged.qcow2', layer)).rejects.toMatchObject({ code: 'integrity' });
    await expect(store.flatten({ layer, path: at('flat.qcow2') })).rejects.toMatchObject({ code: 'integrity' });
    expect(await readdir(directory)).not.toContain('on-forged.qcow2');
    expect(await readdir(directory)).not.toContain('flat.qcow2');
  });

  test('refuses a base of unnamed format, circles and long chains', async () => {
    const file = at('probing.qcow2');
    await runProgram('qemu-img', ['create', '-q', '-f', 'qcow2', '-u', '-b', base.path, '-F', 'qed', file, '3M']);
    await expect(store.chain({ path: file, format: 'qcow2' })).rejects.toMatchObject({ code: 'integrity' });
    const circle = await forge('circle.qcow2', at('circle.qcow2'), 'qcow2');
    await expect(store.chain(circle)).rejects.toMatchObject({ code: 'integrity' });
    let layer = base;
    for (let depth = 1; depth < 6; depth++) layer = await create(`depth-${depth}.qcow2`, layer);
    expect(await store.chain(layer)).toHaveLength(5);
    await expect(create('depth-6.qcow2', layer)).rejects.toMatchObject({ code: 'invalid_state' });
  });

  test('refuses to make, read or remove anything outside of the data directory', async () => {
    const layer = { path: '/etc/hostname', format: 'raw' } as const;
    await expect(store.remove(layer)).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(store.allocatedBytes(layer)).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(create('x.qcow2', layer)).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(create('../x.qcow2')).rejects.toMatchObject({ code: 'invalid_request' });
  });

  test('a layer is flattened as it was checked, whatever its VMM writes meanwhile', async () => {
    const layer = await create('changing.qcow2');
    await runProgram('qemu-io', ['-f', 'qcow2', '-c', 'write -P 5 0 4k', layer.path]);
    const header = await readFile((await forge('other.qcow2', '/etc/hostname')).path);
    const run: typeof runProgram = async (...program) => {
      const handle = await open(layer.path, 'r+');
      await handle.write(header, 0, header.length, 0);
      await handle.close();
      return runProgram(...program);
    };
    const flat = await new Qcow2DiskStore({ dataDir: directory, run }).flatten({ layer, path: at('as-it-was.qcow2') });
    await runProgram('qemu-io', ['-f', 'qcow2', '-r', '-c', 'read -P 5 0 4k', '-c', 'read -P 0xb0 4k 4k', flat.path]);
    expect((await readdir(directory)).filter((name) => name.startsWith('as-it-was'))).toEqual(['as-it-was.qcow2']);
  });

  test('a layer that names other bases than it was made on is not flattened', async () => {
    const layer = await forge('of-another.qcow2', base.path);
    await writeFile(at('own.raw'), Buffer.alloc(2 * mib));
    const below = [{ path: at('own.raw'), format: 'raw' as const }];
    const flatten = store.flatten({ layer, below, path: at('never.qcow2') });
    await expect(flatten).rejects.toMatchObject({ code: 'integrity' });
    expect((await readdir(directory)).filter((name) => name.startsWith('never'))).toEqual([]);
  });

  test('a layer that a stopped VMM has open is flattened all the same', async () => {
    const layer = await create('open.qcow2');
    await runProgram('qemu-io', ['-f', 'qcow2', '-c', 'write -P 6 0 4k', layer.path]);
    const { ino } = await stat(layer.path);
    const holder = spawn('qemu-io', ['-f', 'qcow2', '-c', 'sleep 60000', layer.path], { stdio: 'ignore' });
    const ended = new Promise((resolve) => holder.once('exit', resolve));
    try {
      // Asking the kernel takes no lock itself, which could keep the holder from having one.
      await waitFor({ what: 'the lock on the layer', timeoutMs: 10_000 }, async () =>
        (await readFile('/proc/locks', 'utf8')).includes(`:${ino} `),
      );
      await expect(runProgram('qemu-img', ['check', '-f', 'qcow2', layer.path])).rejects.toThrow(/lock/);
      const flat = await store.flatten({ layer, path: at('of-open.qcow2') });
      await runProgram('qemu-io', ['-f', 'qcow2', '-r', '-c', 'read -P 6 0 4k', flat.path]);
    } finally {
      holder.kill('SIGKILL');
      await ended;
    }
  });

  test('a full disk is disk_full, and nothing is left behind', async () => {
    const small = at('small');
    await mkdir(small);
    await runProgram('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', small]);
    try {
      const large = await create('large.qcow2');
      await runProgram('qemu-io', ['-f', 'qcow2', '-c', 'write -P 9 0 32M', large.path]);
      const flatten = store.flatten({ layer: large, path: path.join(small, 'flat.qcow2') });
      await expect(flatten).rejects.toMatchObject({ code: 'disk_full' });
      expect(await readdir(small)).toEqual([]);

      await writeFile(path.join(small, 'filler'), Buffer.alloc(16 * mib)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOSPC') throw error;
      });
      await expect(create('small/layer.qcow2')).rejects.toMatchObject({ code: 'disk_full' });
      expect(await readdir(small)).toEqual(['filler']);
    } finally {
      await runProgram('umount', [small]);
    }
  });

  test('a layer costs far less than the process that would make it', async () => {
    const timeOf = async (count: number, work: (round: number) => Promise<unknown>) => {
      const startedAt = performance.now();
      for (let round = 0; round < count; round++) await work(round);
      return (performance.now() - startedAt) / count;
    };
    const ownMs = await timeOf(20, (round) => create(`speed-${round}.qcow2`));
    const args = ['create', '-q', '-f', 'qcow2', '-b', base.path, '-F', 'raw'];
    const toolMs = await timeOf(5, (round) => runProgram('qemu-img', [...args, at(`tool-${round}.qcow2`), '64M']));
    console.info(`new layer: ${ownMs.toFixed(2)} ms; qemu-img create: ${toolMs.toFixed(2)} ms`);
    expect(ownMs).toBeLessThan(toolMs);
  });
});

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}
