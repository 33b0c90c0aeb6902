import { sandboxLimits } from '@aviary/core';
import { type NetworkSlot, testImages } from '@aviary/host-agent/testing';
import type { AviaryClient } from '@aviary/sdk';
import { systemClock } from '@aviary/service-kit';
import { measureAgentAtRest } from './agent-at-rest.ts';
import { BareBed, type BareState, type BootedBareVm } from './bare-bed.ts';
import { type BareVm, bareExec, saveBareVm } from './bare-vmm.ts';
import { type PlatformHarness, removeAll, startPlatformHarness } from './platform/platform-harness.ts';
import { type BenchOptions, type BenchReport, type BenchRow, machineFacts, median, row } from './report.ts';
import { atOnce, inTurns, repeat, timed } from './timed.ts';

/** Under load: requests at once, and sandboxes at rest beside the agent. */
const atOnceCount = 10;
const restingSandboxes = 20;
const maxTail = 3;
/** A cold start and a tenfold fork take many seconds each. */
const coldSamples = 3;
const maxForkSamples = 3;
/** A pause may take this much longer than the bare one, and so much more per 10 MB that the guest dirtied. */
const pauseAllowance = { ms: 50, msPer10Mb: 25 };

/**
 * What a user waits for, through the REST API, against a bare QEMU doing the same for a script on its host. Floor and product are taken in
 * turns, each beside the other's idle guest or beside none.
 */
export async function benchLifecycle({ samples, onRow }: BenchOptions): Promise<BenchReport> {
  const imagesFrom = await testImages();
  const rows: BenchRow[] = [];
  const add = (...more: BenchRow[]) => {
    rows.push(...more);
    for (const one of more) onRow(one);
  };
  await using bed = await BareBed.open({ imagesFrom, accelerator: 'tcg' });
  add(await measureSlots(bed, samples));
  await using product = await startPlatformHarness({
    imagesFrom,
    settings: { AVIARY_WARM_POOL: '0', AVIARY_LOG_LEVEL: 'warn' },
  });
  const { client } = product;
  add(await measureCreateCold(client, bed));
  const { value: bare } = await bed.boot();
  add(await measureExec(client, { bare, samples }));
  add(...(await measurePause(client, { bare, samples })));
  await removeAll(client);
  const state: BareState = await bed.saveAndEnd(bare);
  const bareRestore = async () => {
    const { value, ms } = await bed.restore(state);
    await value.kill();
    return ms;
  };
  add(await measureCreate(client, { bareRestore, samples }));
  add(await measureResume(client, { bareRestore, samples }));
  add(await measureFork(client, { bareRestore, samples: Math.min(samples, maxForkSamples) }));
  add(...(await measureAgentAtRest(product, restingSandboxes)));
  await removeAll(client);
  add(await measureCreateWarm(product, { bareRestore, samples }));
  return { bench: 'lifecycle', machine: machineFacts('tcg'), rows };
}

/** Boots a bare microVM and a sandbox of a size that has no boot snapshot yet, in turns. */
async function measureCreateCold(client: AviaryClient, bed: BareBed): Promise<BenchRow> {
  let diskMb = sandboxLimits.diskMib.default;
  const taken = await inTurns(coldSamples, {
    floor: async () => {
      const { value, ms } = await bed.boot();
      await value.kill();
      return ms;
    },
    product: async () => {
      const ms = await timed(() => createAndExec(client, { disk_size_mb: ++diskMb }));
      await removeAll(client);
      return ms;
    },
  });
  return row('create_cold', 'ms', taken, { limit: (ms) => ms * 1.25 });
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

async function createAndExec(client: AviaryClient, size: { disk_size_mb?: number } = {}): Promise<string> {
  const { id } = await client.sandboxes.create({ template: 'minimal', ...size }, { waitSec: 300 });
  await execTrue(client, id);
  return id;
}

async function execTrue(client: AviaryClient, id: string): Promise<void> {
  const { exit_code } = await client.sandboxes.exec(id, { cmd: '/bin/true', args: [] });
  if (exit_code !== 0) throw new Error(`true exited with ${exit_code}`);
}

/** In guests that have run commands before: the first ones of a guest are slower, and part of what create and resume are measured by. */
async function measureExec(
  client: AviaryClient,
  { bare, samples }: { bare: BareVm; samples: number },
): Promise<BenchRow> {
  const id = await createAndExec(client);
  const turn = {
    floor: () => timed(() => bareExec(bare.guest)),
    product: () => timed(() => execTrue(client, id)),
  };
  await inTurns(samples * 4, turn);
  const taken = await inTurns(samples * 4, turn);
  const tail = (await atOnce(atOnceCount, () => repeat(samples, turn.product))).flat();
  return row('exec', 'ms', { ...taken, tail }, { limit: (ms) => ms + 10, tail: maxTail });
}

interface RestoreFloor {
  /** Restores a bare microVM and ends it; answers the time to its first command's answer. */
  bareRestore: () => Promise<number>;
  samples: number;
}

async function measureCreate(client: AviaryClient, { bareRestore, samples }: RestoreFloor): Promise<BenchRow> {
  await createAndExec(client); // the boot snapshot is there after it
  await removeAll(client);
  const taken = await inTurns(samples, {
    floor: bareRestore,
    product: async () => {
      const ms = await timed(() => createAndExec(client));
      await removeAll(client);
      return ms;
    },
  });
  const tail = await atOnce(atOnceCount, () => timed(() => createAndExec(client)));
  await removeAll(client);
  return row('create', 'ms', { ...taken, tail }, { limit: (ms) => ms * 1.3, tail: maxTail });
}

async function measureCreateWarm(product: PlatformHarness, { bareRestore, samples }: RestoreFloor): Promise<BenchRow> {
  await product.down();
  await product.up({ AVIARY_WARM_POOL: '1' });
  const { client } = product;
  // The pool learns from a first create what to keep ready.
  await createAndExec(client);
  const floor: number[] = [];
  const warm: number[] = [];
  for (let attempt = 0; warm.length < samples && attempt < samples * 2; attempt++) {
    floor.push(await bareRestore());
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

/** Rounds of a little work and a save of what it wrote. Both microVMs run on between them. */
async function measurePause(
  client: AviaryClient,
  { bare, samples }: { bare: BootedBareVm; samples: number },
): Promise<BenchRow[]> {
  const id = await createAndExec(client);
  const save = () => saveBareVm(bare, { statePath: `${bare.memoryPath}.state`, memoryPath: bare.memoryPath });
  // A guest's first save is of everything that booting or restoring wrote, and not one of the rounds.
  await save();
  await bare.qmp('cont');
  const dirtiedMb: number[] = [];
  const taken = await inTurns(samples * 2, {
    floor: async () => {
      await bareExec(bare.guest);
      const ms = await timed(save);
      await bare.qmp('cont');
      return ms;
    },
    product: async () => {
      await execTrue(client, id);
      const ms = await timed(() => client.sandboxes.pause(id, { waitSec: 120 }));
      const generations = await client.generations.list(id);
      dirtiedMb.push((generations.find(({ current }) => current)?.memory_bytes ?? 0) / 1e6);
      await client.sandboxes.resume(id, { waitSec: 120 });
      return ms;
    },
  });
  const allowanceMs = pauseAllowance.ms + (pauseAllowance.msPer10Mb * median(dirtiedMb)) / 10;
  return [
    row('pause', 'ms', taken, { limit: (ms) => ms + allowanceMs }),
    row('pause_dirtied', 'MB', { floor: [], product: dirtiedMb }),
  ];
}

async function measureResume(client: AviaryClient, { bareRestore, samples }: RestoreFloor): Promise<BenchRow> {
  const id = await createAndExec(client);
  const pause = (target: string) => client.sandboxes.pause(target, { waitSec: 120 });
  const resume = (target: string) =>
    timed(async () => {
      await client.sandboxes.resume(target, { waitSec: 120 });
      await execTrue(client, target);
    });
  await pause(id);
  const taken = await inTurns(samples, {
    floor: bareRestore,
    product: async () => {
      const ms = await resume(id);
      await pause(id);
      return ms;
    },
  });
  await removeAll(client);
  const others = await atOnce(atOnceCount, () => createAndExec(client));
  await Promise.all(others.map(pause));
  const tail = await Promise.all(others.map(resume));
  await removeAll(client);
  return row('resume', 'ms', { ...taken, tail }, { limit: (ms) => ms * 1.3, tail: maxTail });
}

/** Ten copies of a paused sandbox, until each has answered, against as many bare restores one after the other. */
async function measureFork(client: AviaryClient, { bareRestore, samples }: RestoreFloor): Promise<BenchRow> {
  const id = await createAndExec(client);
  await client.sandboxes.pause(id, { waitSec: 120 });
  const taken = await inTurns(samples, {
    floor: async () => {
      let ms = 0;
      for (let i = 0; i < atOnceCount; i++) ms += await bareRestore();
      return ms;
    },
    product: async () => {
      let copies: { id: string }[] = [];
      const ms = await timed(async () => {
        copies = await client.sandboxes.fork(id, { count: atOnceCount }, { waitSec: 120 });
        await Promise.all(copies.map((copy) => execTrue(client, copy.id)));
      });
      await Promise.all(copies.map((copy) => client.sandboxes.delete(copy.id, { waitSec: 60 })));
      return ms;
    },
  });
  await removeAll(client);
  return row('fork10', 'ms', taken, { limit: (ms) => ms });
}
