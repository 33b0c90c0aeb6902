import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { must } from '@aviary/core';
import { loadImages } from '@aviary/images';
import { silentLogger } from '@aviary/service-kit';
import type { NetworkSlot } from '../../../../apps/host-agent/src/network/network-slot.ts';
import { createSlotPool } from '../../../../apps/host-agent/src/network/slot-pool.ts';
import { testImages } from '../../../../apps/host-agent/src/testing/test-images.ts';
import { type BareVm, type BareVmOptions, bareExec, startBareVm } from './bare-vmm.ts';
import { startProduct } from './product.ts';
import { type BenchReport, type BenchRow, machineFacts, row } from './report.ts';

/** What a user waits for, through the REST API, against a bare QEMU doing the same for a script on its host. */
export async function benchLifecycle({ samples }: { samples: number }): Promise<BenchReport> {
  const imagesFrom = await testImages();
  const images = must(await loadImages(imagesFrom), 'testImages builds them');
  await using cleanup = new AsyncDisposableStack();
  const directory = await mkdtemp(path.join(os.tmpdir(), 'aviary-bare-'));
  cleanup.defer(() => rm(directory, { recursive: true, force: true }));
  const slots = cleanup.use(
    createSlotPool(
      { logger: silentLogger },
      { prefix: `f${process.pid.toString(36).slice(-3)}`, size: 2, maxSlots: 64, firstIndex: 20_000 },
    ),
  );
  const rows: BenchRow[] = [];

  rows.push(await measureSlots(slots, samples));

  const bare = async (name: string, options: Partial<BareVmOptions> = {}): Promise<BareVm> => {
    const slot = await slots.acquire();
    return startBareVm({
      images,
      accelerator: 'tcg',
      directory,
      name,
      slot,
      base: { path: images.minimal.rootfsPath, format: 'raw' },
      memoryPath: path.join(directory, `${name}.mem`),
      ...options,
    });
  };

  const cold = { floor: [] as number[], product: [] as number[] };
  const exec = { floor: [] as number[], product: [] as number[], tail: [] as number[] };
  for (let i = 0; i < Math.min(samples, 3); i++) {
    const startedAt = performance.now();
    const vm = await bare(`cold-${i}`);
    cold.floor.push(performance.now() - startedAt);
    if (i === 0) for (let n = 0; n < samples * 4; n++) exec.floor.push(await timed(() => bareExec(vm.guest)));
    await vm.kill();
    // A platform of its own each time: the first create finds no boot snapshot.
    await using product = await startProduct({ imagesFrom });
    const { client } = product;
    cold.product.push(
      await timed(async () => {
        const { id } = await client.sandboxes.create({ template: 'minimal' }, { waitSec: 300 });
        await client.sandboxes.exec(id, { cmd: '/bin/true', args: [] });
      }),
    );
    if (i > 0) continue;
    const [sandbox] = await Array.fromAsync(client.sandboxes.list());
    const id = must(sandbox, 'just created').id;
    const once = () => client.sandboxes.exec(id, { cmd: '/bin/true', args: [] });
    for (let n = 0; n < samples * 4; n++) exec.product.push(await timed(once));
    const tens = Array.from({ length: 10 }, async () => {
      for (let n = 0; n < samples * 2; n++) exec.tail.push(await timed(once));
    });
    await Promise.all(tens);
  }
  rows.push(row('create_cold', 'ms', cold), row('exec', 'ms', exec));
  return { bench: 'lifecycle', machine: machineFacts('tcg'), rows };
}

async function measureSlots(slots: ReturnType<typeof createSlotPool>, samples: number): Promise<BenchRow> {
  const built: number[] = [];
  const taken: number[] = [];
  for (let i = 0; i < samples; i++) {
    const held: NetworkSlot[] = [];
    // Past the pool's size a slot is built while its taker waits: that is the floor of having no pool.
    for (let n = 0; n < 3; n++) {
      const isReady = slots.ready > 0;
      (isReady ? taken : built).push(await timed(async () => held.push(await slots.acquire())));
    }
    for (const slot of held) await slots.release(slot);
  }
  return row('slot', 'ms', { floor: built, product: taken });
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}
