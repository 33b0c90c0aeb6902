import type { AviaryClient } from '@aviary/sdk';
import { systemClock } from '@aviary/service-kit';
import type { NetworkSlot } from '../../../../apps/host-agent/src/network/network-slot.ts';
import { testImages } from '../../../../apps/host-agent/src/testing/test-images.ts';
import { type PlatformHarness, removeAll, startPlatformHarness } from '../platform/platform-harness.ts';
import { measureAgentAtRest } from './agent-at-rest.ts';
import { BareBed, type BareState } from './bare-bed.ts';
import { bareExec, saveBareVm } from './bare-vmm.ts';
import { type BenchOptions, type BenchReport, type BenchRow, machineFacts, median, row } from './report.ts';
import { atOnce, repeat, timed } from './timed.ts';

/** Under load: requests at once, and sandboxes at rest beside the agent. */
const atOnceCount = 10;
const restingSandboxes = 20;
const maxTail = 3;
/** A pause may take this much longer than the bare one, and so much more per 10 MB that the guest dirtied. */
const pauseAllowance = { ms: 50, msPer10Mb: 25 };

/** What a user waits for, through the REST API, against a bare QEMU doing the same for a script on its host. */
export async function benchLifecycle({ samples, onRow }: BenchOptions): Promise<BenchReport> {
  const imagesFrom = await testImages();
  const rows: BenchRow[] = [];
  const add = (...more: BenchRow[]) => {
    rows.push(...more);
    for (const one of more) onRow(one);
  };
  await using bed = await BareBed.open({ imagesFrom, accelerator: 'tcg' });
  add(await measureSlots(bed, samples));
  const floor = await measureFloor(bed, samples);
  await using product = await startPlatformHarness({
    imagesFrom,
    settings: { AVIARY_WARM_POOL: '0', AVIARY_LOG_LEVEL: 'warn' },
  });
  const cold = await timed(() => createAndExec(product.client));
  add(row('create_cold', 'ms', { floor: floor.boot, product: [cold] }, { limit: (ms) => ms * 1.25 }));
  add(await measureExec(product.client, { floor: floor.exec, samples }));
  await removeAll(product.client);
  add(await measureCreate(product.client, { floor: floor.restore, samples }));
  add(...(await measurePauseAndResume(product.client, { ...floor, samples })));
  add(await measureFork(product.client, median(floor.restore)));
  add(...(await measureAgentAtRest(product, restingSandboxes)));
  await removeAll(product.client);
  add(await measureCreateWarm(product, { floor: floor.restore, samples }));
  return { bench: 'lifecycle', machine: machineFacts('tcg'), rows };
}

interface Floor {
  boot: number[];
  exec: number[];
  pause: number[];
  restore: number[];
}

async function measureFloor(bed: BareBed, samples: number): Promise<Floor> {
  const { value: vm, ms: bootMs } = await bed.boot();
  const exec = await repeat(samples * 4, () => timed(() => bareExec(vm.guest)));
  // Rounds of a little work and a save of what it wrote; the first, of everything that booting wrote, is not one of them.
  const save = () => saveBareVm(vm, { statePath: `${vm.memoryPath}.state`, memoryPath: vm.memoryPath });
  await save();
  const pause = await repeat(samples, async () => {
    await vm.qmp('cont');
    await bareExec(vm.guest);
    return timed(save);
  });
  await vm.qmp('cont');
  const state: BareState = await bed.saveAndEnd(vm);
  const restore = await repeat(samples, async () => {
    const { value, ms } = await bed.restore(state);
    await value.kill();
    return ms;
  });
  return { boot: [bootMs], exec, pause, restore };
}

async function measureSlots({ slots }: BareBed, samples: number): Promise<BenchRow> {
  const built: number[] = [];
  const taken: number[] = [];
  for (let i = 0; i < samples; i++) {
    const held: NetworkSlot[] = [];
    // Past the pool's size a slot is built while its taker waits: that is the floor of having no pool.
    for (let n = 0; n < 3; n++) {
      const samplesOf = slots.ready > 0 ? taken : built;
      samplesOf.push(await timed(async () => held.push(await slots.acquire())));
    }
    for (const slot of held) await slots.release(slot);
  }
  return row('slot', 'ms', { floor: built, product: taken }, { limit: () => 1 });
}

async function createAndExec(client: AviaryClient): Promise<string> {
  const { id } = await client.sandboxes.create({ template: 'minimal' }, { waitSec: 300 });
  await execTrue(client, id);
  return id;
}

async function execTrue(client: AviaryClient, id: string): Promise<void> {
  const { exit_code } = await client.sandboxes.exec(id, { cmd: '/bin/true', args: [] });
  if (exit_code !== 0) throw new Error(`true exited with ${exit_code}`);
}

/** In the sandbox that the cold create left. */
async function measureExec(
  client: AviaryClient,
  { floor, samples }: { floor: number[]; samples: number },
): Promise<BenchRow> {
  const [sandbox] = await Array.fromAsync(client.sandboxes.list({ status: ['running'] }));
  const id = sandbox?.id ?? (await createAndExec(client));
  const once = () => timed(() => execTrue(client, id));
  const product = await repeat(samples * 4, once);
  const tail = (await atOnce(atOnceCount, () => repeat(samples, once))).flat();
  return row('exec', 'ms', { floor, product, tail }, { limit: (ms) => ms + 10, tail: maxTail });
}

async function measureCreate(
  client: AviaryClient,
  { floor, samples }: { floor: number[]; samples: number },
): Promise<BenchRow> {
  // One at a time, as the floor: on software CPUs even an idle guest takes its share of the host's.
  const product = await repeat(samples, async () => {
    const ms = await timed(() => createAndExec(client));
    await removeAll(client);
    return ms;
  });
  const tail = await atOnce(atOnceCount, () => timed(() => createAndExec(client)));
  await removeAll(client);
  return row('create', 'ms', { floor, product, tail }, { limit: (ms) => ms * 1.3, tail: maxTail });
}

async function measureCreateWarm(
  product: PlatformHarness,
  { floor, samples }: { floor: number[]; samples: number },
): Promise<BenchRow> {
  await product.down();
  await product.up({ AVIARY_WARM_POOL: '1' });
  const { client } = product;
  // The pool learns from a first create what to keep ready.
  await createAndExec(client);
  const warm: number[] = [];
  for (let attempt = 0; warm.length < samples && attempt < samples * 2; attempt++) {
    await systemClock.sleep(warmUpMs);
    let id = '';
    const ms = await timed(async () => {
      id = await createAndExec(client);
    });
    if ((await client.sandboxes.get(id)).start_path === 'warm_pool') warm.push(ms);
    await client.sandboxes.delete(id, { waitSec: 60 });
  }
  await removeAll(client);
  return row('create_warm', 'ms', { floor, product: warm }, { limit: (ms) => ms * 0.7 });
}

/** Time for the pool to notice that it is quiet, and to fill itself. */
const warmUpMs = 4_000;

async function measurePauseAndResume(client: AviaryClient, floor: Floor & { samples: number }): Promise<BenchRow[]> {
  const { samples } = floor;
  const id = await createAndExec(client);
  const pause: number[] = [];
  const resumeNow: number[] = [];
  const dirtiedMb: number[] = [];
  const cycle = async (target: string) => {
    pause.push(await timed(() => client.sandboxes.pause(target, { waitSec: 120 })));
    const generations = await client.generations.list(target);
    dirtiedMb.push((generations.find(({ current }) => current)?.memory_bytes ?? 0) / 1e6);
  };
  const resume = (target: string) =>
    timed(async () => {
      await client.sandboxes.resume(target, { waitSec: 120 });
      await execTrue(client, target);
    });
  const resumeLater: number[] = [];
  for (let i = 0; i < samples; i++) {
    await cycle(id);
    resumeNow.push(await resume(id));
    await cycle(id);
    await systemClock.sleep(settleMs);
    resumeLater.push(await resume(id));
  }
  await client.sandboxes.delete(id, { waitSec: 60 });
  const others = await atOnce(atOnceCount, () => createAndExec(client));
  await Promise.all(others.map((other) => client.sandboxes.pause(other, { waitSec: 120 })));
  const tail = await Promise.all(others.map((other) => resume(other)));
  await removeAll(client);
  const dirtied = median(dirtiedMb);
  const allowanceMs = pauseAllowance.ms + (pauseAllowance.msPer10Mb * dirtied) / 10;
  return [
    row('pause', 'ms', { floor: floor.pause, product: pause }, { limit: (ms) => ms + allowanceMs }),
    row('pause_dirtied', 'MB', { floor: [], product: dirtiedMb }),
    row(
      'resume',
      'ms',
      { floor: floor.restore, product: resumeLater, tail },
      { limit: (ms) => ms * 1.3, tail: maxTail },
    ),
    row('resume_now', 'ms', { floor: floor.restore, product: resumeNow }, { limit: (ms) => ms * 1.3 }),
  ];
}

/** Time in which the host may prepare a paused sandbox for its resume. */
const settleMs = 2_000;

async function measureFork(client: AviaryClient, restoreMs: number): Promise<BenchRow> {
  const id = await createAndExec(client);
  await client.sandboxes.pause(id, { waitSec: 120 });
  const fork = await timed(async () => {
    const copies = await client.sandboxes.fork(id, { count: atOnceCount }, { waitSec: 120 });
    await Promise.all(copies.map((copy) => execTrue(client, copy.id)));
  });
  await removeAll(client);
  return row('fork10', 'ms', { floor: [restoreMs * atOnceCount], product: [fork] }, { limit: (ms) => ms });
}
