import { existsSync } from 'node:fs';
import { access, chmod, chown, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { must } from '@aviary/core';
import { loadImages } from '@aviary/images';
import { runProgram } from '@aviary/service-kit';
import type { DiskLayer } from '../../disk/disk-store.ts';
import { Qcow2DiskStore } from '../../disk/qcow2-disk-store.ts';
import { patienceMs } from '../../testing/patience.ts';
import { testImages } from '../../testing/test-images.ts';
import { readCgroupLayout } from '../process/cgroup.ts';
import { findMappings } from '../process/dirty-pages.ts';
import type { MachineSpec, MicroVm } from '../vmm.ts';
import { describeVmmDriver, type VmmHarness } from '../vmm-conformance.ts';
import { QemuVmm } from './qemu-vmm.ts';

const uid = 23_470;
const memoryMib = 256;
const diskMib = 16;
const cgroupParent = `vt-${process.pid}`;

/** Counts on its console and in memory and on its first drive; modules are where the initramfs has them. */
const guestInit = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /bin /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t devtmpfs dev /dev; mount -t tmpfs tmpfs /tmp
for m in virtio_ring virtio virtio_mmio virtio_blk; do insmod $(find /mods /lib -name $m.ko 2>/dev/null | head -n 1); done
i=0
while :; do
  i=$((i+1))
  dd if=/dev/zero of=/tmp/pages-$(((i-1)%64)) bs=4k count=8 conv=notrunc 2>/dev/null
  dd if=/dev/urandom of=/tmp/pages-$((i%64)) bs=4k count=8 conv=notrunc 2>/dev/null
  printf 'tick %08d' $i | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null
  echo "tick $i"
  if [ $i = 5 ] && grep -q test.then=poweroff /proc/cmdline; then poweroff -f; fi
  sleep 0.1
done
`;

/** One file in the format that the kernel unpacks (cpio "newc"; Documentation/driver-api/early-userspace/buffer-format). */
function cpioArchive(name: string, content: Buffer, mode: number): Buffer {
  const entry = (entryName: string, data: Buffer, entryMode: number) => {
    const numbers = [0, entryMode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, entryName.length + 1, 0];
    const header = `070701${numbers.map((n) => n.toString(16).padStart(8, '0')).join('')}${entryName}\0`;
    return Buffer.concat([padded(Buffer.from(header)), padded(data)]);
  };
  return Buffer.concat([entry(name, content, mode), entry('TRAILER!!!', Buffer.alloc(0), 0)]);
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((4 - (data.length % 4)) % 4)]);
}

async function makeHarness(images: { kernelPath: string; initramfsPath: string }): Promise<VmmHarness> {
  const directory = await mkdtemp('/tmp/vt-');
  await chmod(directory, 0o711);
  // As udev makes it: who may open a tap is the tap's own affair (Linux Documentation/networking/tuntap).
  await chmod('/dev/net/tun', 0o666);
  const namespaces: string[] = [];
  const fullDisks: string[] = [];
  // The kernel unpacks archives one after the other; a later /init replaces an earlier one.
  const initramfsPath = path.join(directory, 'initramfs');
  const overlay = cpioArchive('init', Buffer.from(guestInit), 0o100755);
  await writeFile(initramfsPath, Buffer.concat([padded(await readFile(images.initramfsPath)), gzipSync(overlay)]));
  const toolboxPath = path.join(directory, 'toolbox');
  await writeFile(toolboxPath, Buffer.alloc(64 * 1024));
  await chmod(toolboxPath, 0o644);
  await chmod(initramfsPath, 0o644);
  const workDirectory = path.join(directory, 'vmm-root');
  const probe = { ...images, cachePath: path.join(directory, 'probe.json'), uid, timeoutMs: patienceMs(10_000) };

  const disks = new Qcow2DiskStore({ dataDir: directory });
  const diskDirectory = path.join(directory, 'disks');
  await mkdir(diskDirectory, { mode: 0o711 });
  const base = { path: path.join(diskDirectory, 'base.raw'), format: 'raw' as const };
  await writeFile(base.path, Buffer.alloc(diskMib * 1024 * 1024));
  await disks.freeze(base);
  let nextLayer = 1;
  const createLayer = async (below: DiskLayer) => {
    const layer = await disks.createLayer({
      path: path.join(diskDirectory, `layer-${nextLayer++}.qcow2`),
      ...{ base: below, sizeMib: diskMib, uid },
    });
    return { ...layer, bases: (await disks.chain(layer)).map((each) => each.path) };
  };

  const createSpec = async (id: string): Promise<MachineSpec> => {
    const runDirectory = path.join(directory, id);
    await mkdir(runDirectory);
    await chown(runDirectory, uid, uid);
    const memoryPath = path.join(directory, `memory-${id}`);
    await (await open(memoryPath, 'w')).close();
    await chown(memoryPath, uid, uid);
    const namespace = id.replace('conf', 'vt');
    namespaces.push(namespace);
    await runProgram('ip', ['netns', 'add', namespace]);
    await runProgram('ip', ['-n', namespace, 'tuntap', 'add', 'tap0', 'mode', 'tap', 'user', String(uid)]);
    return {
      ...{ id, vcpus: 1, memoryMib, kernelPath: images.kernelPath, initramfsPath, kernelParameters: [], toolboxPath },
      ...{ disk: await createLayer(base), memoryPath, uid, gid: uid, runDirectory },
      network: { namespace, tapName: 'tap0', guestMac: '02:00:00:00:00:01' },
    };
  };

  return {
    createVmm: () => new QemuVmm({ probe, cgroupParent, dataDirectory: directory, workDirectory }),
    createSpec,
    createLayer,
    freezeLayer: (layer) => disks.freeze(layer),
    async readDisk(layer) {
      const copy = path.join(directory, 'disk-start');
      const args = ['dd', '-U', '-f', layer.format, '-O', 'raw', 'bs=512', 'count=1', `if=${layer.path}`, `of=${copy}`];
      await runProgram('qemu-img', args);
      return readFile(copy, 'latin1');
    },
    async fillDisk(spec) {
      const full = path.join(directory, 'full');
      await mkdir(full);
      await runProgram('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=711', 'tmpfs', full]);
      fullDisks.push(full);
      const layer = { path: path.join(full, 'layer.qcow2'), base, sizeMib: diskMib, uid };
      const disk = await disks.createLayer(layer);
      const filler = path.join(full, 'filler');
      await writeFile(filler, Buffer.alloc(2 * 1024 * 1024)).catch(() => undefined);
      return { spec: { ...spec, disk: { ...disk, bases: [base.path] } }, makeRoom: () => rm(filler) };
    },
    breakSpec: (spec) => ({ ...spec, kernelPath: path.join(directory, 'no-such-kernel') }),
    async countOwnPages({ record }) {
      const sections = (await readFile(`/proc/${record.pid}/smaps`, 'utf8')).split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
      const kib = (text: string, field: string) =>
        Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0);
      return sections
        .filter((section) => section.split('\n')[0]?.endsWith(` ${record.guestMemory.path}`))
        .reduce((pages, section) => pages + (kib(section, 'Anonymous') + kib(section, 'Swap')) / 4, 0);
    },
    async takeMemory({ record }) {
      const directory = must(
        record.cgroupPaths.find(
          (each) => existsSync(path.join(each, 'memory.limit_in_bytes')) || existsSync(path.join(each, 'memory.max')),
        ),
        'a cgroup limits memory',
      );
      if (existsSync(path.join(directory, 'memory.max'))) return writeFile(path.join(directory, 'memory.max'), '1M');
      // The older controller refuses a limit below what is in use and cannot be freed.
      const used = await readFile(path.join(directory, 'memory.usage_in_bytes'), 'utf8');
      await writeFile(path.join(directory, 'memory.limit_in_bytes'), used.trim());
    },
    async readMemory({ record }: MicroVm) {
      const [mapping] = findMappings(await readFile(`/proc/${record.pid}/maps`, 'utf8'), record.guestMemory.path);
      await using memory = await open(`/proc/${record.pid}/mem`, 'r');
      const size = memoryMib * 1024 * 1024;
      const data = Buffer.alloc(size);
      for (let done = 0; done < size; ) {
        done += (await memory.read(data, done, size - done, (mapping?.start ?? 0) + done)).bytesRead;
      }
      return data;
    },
    async leftovers() {
      const { controllers, unified } = await readCgroupLayout();
      const mounts = new Set([...Object.values(controllers).map(({ mount }) => mount), ...(unified ? [unified] : [])]);
      const found: string[] = [];
      for (const mount of mounts) {
        const entries = await readdir(path.join(mount, cgroupParent), { withFileTypes: true }).catch(() => []);
        found.push(...entries.filter((entry) => entry.isDirectory()).map(({ name }) => path.join(mount, name)));
      }
      for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
        const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
        if (command.includes(`${directory}/`)) found.push(`process ${pid}`);
      }
      return found;
    },
    async [Symbol.asyncDispose]() {
      for (const full of fullDisks) await runProgram('umount', ['--lazy', full]);
      for (const namespace of namespaces) await runProgram('ip', ['netns', 'del', namespace]);
      const { controllers, unified } = await readCgroupLayout();
      const mounts = new Set([...Object.values(controllers).map(({ mount }) => mount), ...(unified ? [unified] : [])]);
      for (const mount of mounts) {
        if (await exists(path.join(mount, cgroupParent))) await runProgram('rmdir', [path.join(mount, cgroupParent)]);
      }
      await rm(directory, { recursive: true, force: true });
    },
  };
}

const exists = (file: string) =>
  access(file).then(
    () => true,
    () => false,
  );

describeVmmDriver('QEMU', async () => {
  const images = must(await loadImages(await testImages()), 'the images have just been built');
  return makeHarness({ kernelPath: images.kernel.path, initramfsPath: images.initramfs.path });
});
