import { copyFile, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { QmpClient } from '../qemu/qmp-client.ts';
import type { MachineSpec, MicroVm } from '../vmm.ts';
import { describeVmmDriver, type VmmHarness } from '../vmm-conformance.ts';
import { FakeVmm } from './fake-vmm.ts';

const memoryMib = 1;
const readBytes = 256 * 1024;

async function makeHarness(): Promise<VmmHarness> {
  const directory = await mkdtemp(path.join(tmpdir(), 'fv-'));
  const registry = path.join(directory, 'machines');
  await mkdir(registry);
  const kernelPath = path.join(directory, 'kernel');
  await writeFile(kernelPath, '');
  let nextLayer = 1;

  return {
    createVmm: () => new FakeVmm({ directory: registry }),
    async createSpec(id): Promise<MachineSpec> {
      const runDirectory = path.join(directory, id);
      await mkdir(runDirectory);
      const disk = path.join(directory, `disk-${id}`);
      await writeFile(disk, '');
      const memoryPath = path.join(directory, `memory-${id}`);
      await (await open(memoryPath, 'w')).close();
      return {
        ...{ id, vcpus: 1, memoryMib, kernelPath, initramfsPath: kernelPath, kernelParameters: [] },
        ...{
          toolboxPath: kernelPath,
          disk: { path: disk, format: 'raw', bases: [] },
          memoryPath,
          uid: 0,
          gid: 0,
          runDirectory,
        },
        network: { namespace: 'none', tapName: 'none', guestMac: '02:00:00:00:00:01' },
      };
    },
    breakSpec: (spec) => ({ ...spec, kernelPath: path.join(directory, 'no-such-kernel') }),
    async createLayer(base) {
      const layer = { path: path.join(directory, `layer-${nextLayer++}`), format: 'raw' as const, bases: [] };
      await copyFile(base.path, layer.path);
      return layer;
    },
    freezeLayer: async () => undefined,
    readDisk: (layer) => readFile(layer.path, 'latin1'),
    async readMemory({ record }: MicroVm) {
      const qmp = await QmpClient.connect(record.socketPath);
      const parts: Buffer[] = [];
      for (let offset = 0; offset < memoryMib * 1024 * 1024; offset += readBytes) {
        const data = await qmp.execute('read-memory', { offset, length: readBytes });
        parts.push(Buffer.from(String(data), 'base64'));
      }
      qmp.close();
      return Buffer.concat(parts);
    },
    async leftovers() {
      const found = (await readdir(registry)).map((name) => `record ${name}`);
      for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
        const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
        if (command.includes(`${directory}/`)) found.push(`process ${pid}`);
      }
      return found;
    },
    async [Symbol.asyncDispose]() {
      await rm(directory, { recursive: true, force: true });
    },
  };
}

describeVmmDriver('fake', makeHarness);
