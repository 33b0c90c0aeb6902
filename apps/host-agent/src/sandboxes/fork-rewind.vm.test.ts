import { newId, type SandboxId, sandboxLimits } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentHarness, startAgentHarness } from '../testing/agent-harness.ts';
import { SandboxDriver } from '../testing/sandbox-driver.ts';
import { testImages } from '../testing/test-images.ts';

const forks = 10;
let agent: AgentHarness;
let drive: SandboxDriver;
let source: SandboxId;

beforeAll(async () => {
  agent = await startAgentHarness({ imagesFrom: await testImages() });
  drive = new SandboxDriver(agent);
  source = await drive.create();
}, 300_000);
afterAll(() => agent?.[Symbol.asyncDispose]());

const newIds = (count: number) => Array.from({ length: count }, () => newId('sandbox'));
const marks = 'cat /root/mark /dev/shm/mark';

describe('forks', () => {
  const copies = newIds(forks);

  it(`makes ${forks} copies of a live guest that differ in every secret and name`, async () => {
    await drive.sh(source, 'echo on disk > /root/mark; echo in memory > /dev/shm/mark');
    // Seldom, because every copy does it as well.
    await drive.sh(source, "nohup sh -c 'while :; do date +%s%N > /dev/shm/alive; sleep 2; done' >/dev/null 2>&1 &");
    // A pool that was used already must not give the copies what it would have given the source.
    await drive.sh(source, 'head -c 64 /dev/urandom > /dev/null');
    const operationId = newId('operation');
    const results = await drive.fork(source, copies, operationId);
    expect(results.map(({ error }) => error)).toEqual(copies.map(() => ''));
    const again = await drive.fork(source, copies, operationId);
    expect(again.map(({ sandbox }) => sandbox?.hostAddress)).toEqual(
      results.map(({ sandbox }) => sandbox?.hostAddress),
    );
    await drive.expectOnly(forks + 1, forks + 1);

    const facts = [
      'head -c 16 /dev/urandom | od -An -tx1 | tr -d " \\n"; echo',
      'cat /proc/sys/kernel/random/uuid',
      'cat /etc/machine-id',
      'hostname',
    ];
    const seen = facts.map(() => new Set<string>());
    const tokens = new Set<string>();
    const all = [source, ...copies];
    for (const sandboxId of all) {
      const lines = (await drive.sh(sandboxId, `${facts.join('; ')}; ${marks}`)).split('\n');
      expect(lines.slice(-2), `files of ${sandboxId}`).toEqual(['on disk', 'in memory']);
      for (const [index, values] of seen.entries()) values.add(lines[index] ?? '');
      tokens.add((await drive.record(sandboxId)).accessToken);
    }
    expect([...seen, tokens].map(({ size }) => size)).toEqual([...seen, tokens].map(() => all.length));
  });

  it('leaves the source running, with its processes', async () => {
    const beat = () => drive.sh(source, 'cat /dev/shm/alive');
    const before = await beat();
    await waitFor({ what: 'the next beat', timeoutMs: 15_000, intervalMs: 100 }, async () => (await beat()) !== before);
    expect(await drive.sh(source, marks)).toBe('on disk\nin memory');
  });

  it('forks a fork, also a paused one, and keeps all of it when the source is deleted', async () => {
    await drive.destroy(...copies.slice(2));
    const [first, second] = copies as [SandboxId, SandboxId];
    await drive.sh(first, 'echo changed > /root/mark');
    await drive.pause(first);
    const [grandchild] = newIds(1) as [SandboxId];
    expect((await drive.fork(first, [grandchild])).map(({ error }) => error)).toEqual(['']);
    await drive.destroy(source);
    await collectGarbage(first);
    expect(await drive.sh(second, marks)).toBe('on disk\nin memory');
    await drive.pause(second);
    for (const sandboxId of [first, second]) await drive.resume(sandboxId);
    expect(await drive.sh(first, marks)).toBe('changed\nin memory');
    expect(await drive.sh(second, marks)).toBe('on disk\nin memory');
    expect(await drive.sh(grandchild, marks)).toBe('changed\nin memory');
    await drive.destroy(first, second);
    await drive.pause(grandchild);
    await collectGarbage(grandchild);
    await drive.resume(grandchild, { cold: true });
    expect(await drive.sh(grandchild, 'cat /root/mark')).toBe('changed');
    source = grandchild;
    await drive.expectOnly(1, 1);
  });
});

describe('generations', () => {
  // More pauses than a chain may have diffs, and merges of memory under way in some of them.
  const cycles = sandboxLimits.maxDiffChain + 1;
  const large = [2, 6];

  it(`keeps the last five of ${cycles} and pinned ones, goes back to any of them and branches from it`, async () => {
    const first = await saveWith('first', { fillMib: 1 });
    await agent.client.updateGeneration({ sandboxId: source, generationId: first, name: 'base', pinned: true });
    const later: string[] = [];
    for (let cycle = 1; cycle <= cycles; cycle++) {
      await drive.resume(source);
      expect(await drive.sh(source, readBack), `after cycle ${cycle - 1}`).toBe(written.get(later.at(-1) ?? first));
      later.push(await saveWith(String(cycle), large.includes(cycle) ? { fillMib: 66 } : {}));
    }
    await collectGarbage(source);
    const kept = (await drive.generations(source)).map(({ generationId }) => generationId);
    expect(kept).toHaveLength(6);
    expect(kept).toEqual([first, ...later.slice(-5)]);
    for (const id of later.slice(0, -5)) expect((await drive.saved(id)).parts).not.toContain('state.bin');
    const merged = must(later[must(large.at(-1)) - 1]);
    await expect.poll(async () => (await drive.saved(merged)).merged).toHaveLength(1);

    await drive.resume(source, { generationId: first });
    expect(await drive.sh(source, readBack)).toBe(written.get(first));
    const branch = await drive.pause(source);
    expect(branch?.parentId).toBe(first);
    await drive.resume(source, { generationId: merged });
    expect(await drive.sh(source, readBack)).toBe(written.get(merged));
    expect((await drive.generations(source)).find(({ name }) => name === 'base')).toMatchObject({
      generationId: first,
      pinned: true,
    });
  });

  const readBack = 'cat /root/mark /dev/shm/mark; md5sum < /dev/shm/fill';
  /** What is read back of each generation. */
  const written = new Map<string, string>();
  let checksum = '';

  /** Diffs from 64 MiB on are merged in the background. */
  async function saveWith(mark: string, { fillMib = 0 }): Promise<string> {
    const fill = `yes ${mark} | dd of=/dev/shm/fill bs=1M count=${fillMib} iflag=fullblock conv=notrunc status=none`;
    const filled = fillMib > 0 ? `${fill}; md5sum < /dev/shm/fill` : 'true';
    checksum = (await drive.sh(source, `echo ${mark} | tee /root/mark > /dev/shm/mark; ${filled}`)) || checksum;
    const generation = await drive.pause(source);
    const id = must(generation?.generationId);
    written.set(id, `${mark}\n${mark}\n${checksum}`);
    return id;
  }
});

describe('templates made of sandboxes', () => {
  it('start any number of sandboxes, and go with the last of them', async () => {
    const template = { teamId: newId('team'), templateId: newId('template') };
    await drive.sh(source, 'echo template > /dev/shm/mark');
    const operationId = newId('operation');
    const { memoryMib, vcpus } = await drive.snapshot(source, template, operationId);
    expect({ memoryMib, vcpus }).toEqual({ memoryMib: 512, vcpus: 1 });
    await drive.snapshot(source, template, operationId);
    await drive.sh(source, 'echo later > /dev/shm/mark');
    const refused = await drive.refusal(drive.create({ template, memoryMib: 1_024 }));
    expect(refused).toMatchObject({ code: 'invalid_request', details: { memory_mb: 512 } });
    const made = await drive.create({ template });
    expect(await drive.sh(made, 'cat /dev/shm/mark; hostname')).toBe(
      `template\nsb-${made.replaceAll('-', '').slice(-12)}`,
    );
    await drive.destroy(source);
    expect((await agent.client.deleteSnapshot({ operationId: newId('operation'), template })).deferred).toBe(true);
    expect((await drive.refusal(drive.create({ template }))).code).toBe('not_found');
    await drive.pause(made);
    await drive.resume(made);
    expect(await drive.sh(made, 'cat /dev/shm/mark')).toBe('template');
    await drive.destroy(made);
    await drive.expectOnly(0, 0);
  });
});

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('missing');
  return value;
}

/** Deleting a template collects what nothing needs any more: so one is made of a paused sandbox's last generation, and deleted. */
async function collectGarbage(paused: SandboxId): Promise<void> {
  const template = { teamId: newId('team'), templateId: newId('template') };
  await drive.snapshot(paused, template);
  await agent.client.deleteSnapshot({ operationId: newId('operation'), template });
}
