import { open, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type GenerationId, newId, type SandboxId } from '@aviary/core';
import { runProgram, waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatManifest, parseGenerationManifest } from '../generations/manifest.ts';
import { type AgentHarness, startAgentHarness } from '../testing/agent-harness.ts';
import { SandboxDriver } from '../testing/sandbox-driver.ts';
import { testImages } from '../testing/test-images.ts';

let agent: AgentHarness;
let drive: SandboxDriver;
/** Lives through all of it: whatever is done to it, nothing that it wrote may be lost. */
let sandboxId: SandboxId;
let mark = 0;
/** What must be read back: the mark and a checksum, from disk and from memory. */
let written = '';

beforeAll(async () => {
  agent = await startAgentHarness({ imagesFrom: await testImages() });
  drive = new SandboxDriver(agent);
  sandboxId = await drive.create();
}, 300_000);
afterAll(() => agent?.[Symbol.asyncDispose]());

const readBack = 'cat /root/mark /dev/shm/mark; sha256sum /root/blob /dev/shm/blob';

/** Puts something new on the disk and in memory, not flushed. */
async function write(to = sandboxId): Promise<void> {
  mark++;
  const blob = 'head -c 65536 /dev/urandom | tee /root/blob > /dev/shm/blob';
  written = await drive.sh(to, `echo ${mark} > /root/mark; echo ${mark} > /dev/shm/mark; ${blob}; ${readBack}`);
}

async function expectWritten(of = sandboxId): Promise<void> {
  expect(await drive.sh(of, readBack)).toBe(written);
}

const newTemplate = () => ({ teamId: newId('team'), templateId: newId('template') });

async function deleteTemplate(template: ReturnType<typeof newTemplate>): Promise<void> {
  await agent.client.deleteSnapshot({ operationId: newId('operation'), template });
}

/** Pauses a sandbox and names the generation that this made. */
async function pause(of = sandboxId): Promise<string> {
  const generation = await drive.pause(of);
  if (!generation) throw new Error('the pause made no generation');
  return generation.generationId;
}

/** Ends with the sandbox running, its data checked. */
async function expectUsable(): Promise<void> {
  if ((await drive.state(sandboxId)) === 'PAUSED') await drive.resume(sandboxId);
  await expectWritten();
}

describe('an agent killed in the middle of a pause', () => {
  it.each([
    ['pause.after-freeze', 'RUNNING'],
    ['pause.after-stop', 'RUNNING'],
    ['pause.before-memory', 'RUNNING'],
    ['generation.before-rename', 'RUNNING'],
    ['generation.after-rename', 'PAUSED'],
    ['pause.after-release', 'PAUSED'],
  ])('at %s: the next agent finds it %s, whole, and the same command succeeds', async (point, state) => {
    await write();
    const operationId = newId('operation');
    await drive.crashAt(point, () => drive.pause(sandboxId, operationId));
    expect(await drive.state(sandboxId)).toBe(state);
    if (state === 'RUNNING') await expectWritten();
    const generation = await drive.pause(sandboxId, operationId);
    expect(generation?.generationId).toBe((await drive.info(sandboxId)).generationId);
    await drive.expectOnly(0, 1);
    await drive.resume(sandboxId);
    await expectWritten();
  });
});

describe('an agent killed in the middle of a resume', () => {
  it.each([
    'create.after-disk',
    'vmm.before-placement',
    'vmm.after-placement',
    'resume.after-spawn',
    'resume.before-running',
  ])('at %s: it is still paused, whole, and the same command succeeds', async (point) => {
    await write();
    await drive.pause(sandboxId);
    const operationId = newId('operation');
    await drive.crashAt(point, () => drive.resume(sandboxId, { operationId }));
    expect(await drive.state(sandboxId)).toBe('PAUSED');
    await drive.expectOnly(0, 1);
    await drive.resume(sandboxId, { operationId });
    await expectWritten();
    await drive.expectOnly(1, 1);
  });
});

describe('an agent killed in the middle of a fork or a snapshot', () => {
  it.each(['generation.before-rename', 'resume.after-spawn'])(
    'fork at %s: the source runs on, nothing of the copy is left, and the same command succeeds',
    async (point) => {
      await write();
      const [operationId, copy] = [newId('operation'), newId('sandbox')];
      await drive.crashAt(point, () => drive.fork(sandboxId, [copy], operationId));
      await drive.expectOnly(1, 1);
      await expectWritten();
      expect((await drive.fork(sandboxId, [copy], operationId)).map(({ error }) => error)).toEqual(['']);
      await expectWritten(copy);
      await drive.destroy(copy);
    },
  );

  it('snapshot at snapshot.before-template: no template appears, and the same command makes it', async () => {
    await write();
    const template = newTemplate();
    const operationId = newId('operation');
    await drive.crashAt('snapshot.before-template', () => drive.snapshot(sandboxId, template, operationId));
    await expectWritten();
    expect((await drive.refusal(drive.create({ template }))).code).toBe('not_found');
    await drive.snapshot(sandboxId, template, operationId);
    await deleteTemplate(template);
    await drive.expectOnly(1, 1);
  });
});

describe('an agent killed in the background', () => {
  it('at any step of a merge leaves the old form of the memory or the new one, and the next merge succeeds', async () => {
    for (const [point, left] of Object.entries({
      'merge.before-write': 0,
      'merge.before-manifest': 0,
      'merge.before-rename': 0,
      'merge.after-rename': 1,
    })) {
      await write();
      const generationId = await pause();
      const template = newTemplate();
      // Making a template merges what it starts from.
      await drive.crashAt(point, () => drive.snapshot(sandboxId, template));
      const countMerged = async () => (await drive.saved(generationId)).merged.length;
      expect(await countMerged(), point).toBe(left);
      await drive.expectOnly(0, 1);
      if (point === 'merge.before-rename') {
        const again = newTemplate();
        await drive.snapshot(sandboxId, again);
        await expect.poll(countMerged).toBe(1);
        await deleteTemplate(again);
      }
      await deleteTemplate(template);
      await drive.resume(sandboxId);
      await expectWritten();
    }
    await drive.expectOnly(1, 1);
  });

  it('at any step of a collection keeps what others read, and the next agent removes the rest', async () => {
    const below = await makeTemplate();
    const above = await makeTemplate(below.template);
    const expectSaved = ({ generationId }: { generationId: string }, parts: string[]) =>
      expect.poll(() => drive.saved(generationId)).toEqual({ parts, merged: [] });
    await drive.dieAt('gc.before-retire', () => deleteTemplate(below.template));
    await drive.dieAt('gc.after-retire');
    await agent.start();
    await expectSaved(below, ['disk.layer', 'manifest.json', 'retired.json']);
    const made = await drive.create({ template: above.template });
    await expectWritten(made);
    await drive.destroy(made);
    await drive.dieAt('gc.before-rename', () => deleteTemplate(above.template));
    await drive.dieAt('gc.before-remove');
    await agent.start();
    for (const one of [below, above]) await expectSaved(one, []);
    await drive.expectOnly(1, 1);
  });

  /** A template that alone keeps what it starts from, made of a sandbox of template `from`, whose content is checked. */
  async function makeTemplate(from?: ReturnType<typeof newTemplate>) {
    const source = await drive.create(from ? { template: from } : {});
    if (from) await expectWritten(source);
    await write(source);
    const generationId = await pause(source);
    const template = newTemplate();
    await drive.snapshot(source, template);
    await drive.destroy(source);
    return { template, generationId };
  }
});

describe('an agent killed in the middle of deleting a template', () => {
  beforeAll(async () => {
    await write();
    await pause();
  });

  it.each([
    ['template-delete.before-remove', 'is still there'],
    ['template-delete.before-rmdir', 'is gone'],
    ['template-delete.before-collect', 'is gone'],
  ])('at %s: it %s, and the same command succeeds', async (point, outcome) => {
    const template = newTemplate();
    await drive.snapshot(sandboxId, template);
    await drive.crashAt(point, () => deleteTemplate(template));
    if (outcome === 'is still there') {
      const made = await drive.create({ template });
      await expectWritten(made);
      await drive.destroy(made);
    } else {
      expect((await drive.refusal(drive.create({ template }))).code).toBe('not_found');
    }
    await deleteTemplate(template);
    expect(await readdir(path.join(agent.dataDir, 'images/teams', template.teamId))).toEqual([]);
    await drive.expectOnly(0, 1);
  });

  it('loses nothing of the sandbox that it was made of', async () => {
    await drive.resume(sandboxId);
    await expectWritten();
  });
});

describe('a full disk', () => {
  it.each(['pause.before-memory', 'generation.after-rename'])(
    'at %s fails the pause, and the sandbox runs on',
    async (point) => {
      await write();
      await agent.stop('SIGTERM');
      await agent.start(`${point}:enospc`);
      expect((await drive.refusal(drive.pause(sandboxId))).code).toBe('disk_full');
      const { reason } = await drive.info(sandboxId);
      expect(reason).toContain('the last pause failed');
      await expectWritten();
      await drive.expectOnly(1, 1);
      // The point acts once: the next pause is the real proof that the failed one broke nothing.
      await drive.pause(sandboxId);
      await expectUsable();
    },
  );

  it('after the commit cannot undo a pause: the next command finishes it', async () => {
    await write();
    await agent.stop('SIGTERM');
    await agent.start('pause.after-commit:enospc');
    expect((await drive.refusal(drive.pause(sandboxId))).code).toBe('disk_full');
    await drive.resume(sandboxId);
    await expectWritten();
    await drive.expectOnly(1, 1);
  });

  it('while a pause frees what it held leaves it paused: the next command frees the rest', async () => {
    await write();
    await agent.stop('SIGTERM');
    await agent.start('pause.after-release:enospc');
    await pause();
    await waitFor({ what: 'the failure', timeoutMs: 10_000 }, async () =>
      agent.log().includes('paused, but its microVM is not freed'),
    );
    expect(await drive.state(sandboxId)).toBe('PAUSED');
    expect((await agent.holdings()).sandboxDirectories).toHaveLength(1);
    await drive.resume(sandboxId);
    await expectWritten();
    await drive.pause(sandboxId);
    await drive.expectOnly(0, 1);
    await drive.resume(sandboxId);
    await expectWritten();
  });

  it('fails a merge, and then the deletion of a template: what they were to replace is whole', async () => {
    await write();
    const generationId = await pause();
    const template = newTemplate();
    await agent.stop('SIGTERM');
    await agent.start('merge.before-rename:enospc');
    const countFailures = () => agent.log().split('cannot prepare a resume').length;
    const before = countFailures();
    await drive.snapshot(sandboxId, template);
    await expect.poll(countFailures).toBeGreaterThan(before);
    expect((await drive.saved(generationId)).merged).toEqual([]);
    await agent.stop('SIGTERM');
    await agent.start('template-delete.before-remove:enospc');
    expect((await drive.refusal(deleteTemplate(template))).code).toBe('disk_full');
    const made = await drive.create({ template });
    await expectWritten(made);
    await drive.destroy(made);
    await deleteTemplate(template);
    expect((await drive.refusal(drive.create({ template }))).code).toBe('not_found');
    await drive.resume(sandboxId);
    await expectWritten();
    await drive.expectOnly(1, 1);
  });

  it.each(['create.after-disk', 'resume.before-running'])(
    'at %s fails the resume, and the sandbox stays paused',
    async (point) => {
      await write();
      await drive.pause(sandboxId);
      await agent.stop('SIGTERM');
      await agent.start(`${point}:enospc`);
      expect((await drive.refusal(drive.resume(sandboxId))).code).toBe('disk_full');
      expect(await drive.state(sandboxId)).toBe('PAUSED');
      await drive.expectOnly(0, 1);
      await expectUsable();
    },
  );
});

describe('a VMM that is killed', () => {
  /** From here on the next agent knows of the pause, too. */
  const isPausing = async () => (await drive.record(sandboxId))['state'] === 'pausing';

  it('during a pause makes the sandbox `error`, with its last generation to come back from', async () => {
    await write();
    await drive.pause(sandboxId);
    await drive.resume(sandboxId);
    await agent.stop('SIGTERM');
    await agent.start('pause.before-memory:hang');
    const pause = drive.pause(sandboxId);
    pause.catch(() => undefined);
    await waitFor({ what: 'the pause to begin', timeoutMs: 10_000 }, isPausing);
    const pid = await drive.vmmPid(sandboxId);
    await agent.stop('SIGKILL');
    process.kill(pid, 'SIGKILL');
    await agent.start();
    const { reason } = await drive.info(sandboxId);
    expect({ state: await drive.state(sandboxId), reason }).toEqual({
      state: 'ERROR',
      reason: 'the microVM ended: it ended while it was paused',
    });
    const resumed = await drive.resume(sandboxId);
    expect(resumed?.reason).toContain('came back from its last saved state');
    await expectWritten();
  });

  it('while the agent pauses it is told as the reason', async () => {
    await drive.sh(sandboxId, 'head -c 50000000 /dev/urandom > /dev/shm/large');
    const pid = await drive.vmmPid(sandboxId);
    const refused = drive.refusal(drive.pause(sandboxId));
    await waitFor({ what: 'the pause to begin', timeoutMs: 20_000, intervalMs: 2 }, isPausing);
    process.kill(pid, 'SIGKILL');
    await refused;
    expect(await drive.state(sandboxId)).toBe('ERROR');
    expect((await drive.info(sandboxId)).reason).toContain('the microVM ended');
    await drive.resume(sandboxId);
    await expectWritten();
    await drive.expectOnly(1, 1);
  });
});

describe('damaged files of a paused sandbox', () => {
  let generationId: GenerationId;
  const file = (part: string) => path.join(agent.dataDir, 'host/generations', generationId, part);

  beforeAll(async () => {
    await write();
    generationId = (await drive.pause(sandboxId))?.generationId as GenerationId;
    // Its memory in one piece, so that tests damage what a resume reads.
    await drive.resume(sandboxId);
    await drive.pause(sandboxId);
    generationId = (await drive.info(sandboxId)).generationId as GenerationId;
  }, 60_000);

  async function flipBit(target: string): Promise<void> {
    const handle = await open(target, 'r+');
    const { buffer } = await handle.read({ buffer: Buffer.alloc(1), position: 5_000 });
    await handle.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, 5_000);
    await handle.close();
  }

  /** Damages a file, expects every memory resume refused, and puts the file back. */
  async function whileDamaged(part: string, damage: (target: string) => Promise<void>, check: () => Promise<void>) {
    const target = file(part);
    const kept = `${target}.kept`;
    await runProgram('cp', ['--sparse=always', '-p', target, kept]);
    try {
      await damage(target);
      await check();
    } finally {
      await rename(kept, target);
    }
  }

  it.each([
    ['a flipped bit in state.bin', 'state.bin', flipBit, true],
    ['a truncated state.bin', 'state.bin', (target: string) => truncate(target, 1_000), true],
    ['a flipped bit in disk.layer', 'disk.layer', flipBit, false],
    ['a lost disk.layer', 'disk.layer', (target: string) => rm(target), false],
    [
      'a flipped bit in the manifest',
      'manifest.json',
      (target: string) => replaceIn(target, '"vcpus":1', '"vcpus":2'),
      undefined,
    ],
    [
      'another file in place of the state',
      'state.bin',
      (target: string) => writeFile(target, Buffer.alloc(100_000)),
      true,
    ],
  ])('%s: refused, saying whether the disk is intact', async (_what, part, damage, isDiskIntact) => {
    await whileDamaged(part, damage, async () => {
      const refused = await drive.refusal(drive.resume(sandboxId));
      expect(refused.code).toBe('integrity');
      if (isDiskIntact !== undefined) expect(refused.details['disk_intact']).toBe(isDiskIntact);
      expect(await drive.state(sandboxId)).toBe('PAUSED');
      await drive.expectOnly(0, 1);
    });
  });

  it('a flipped bit in memory: refused with the disk intact, and resumed once it is repaired', async () => {
    const merged = await mergedMemory();
    for (const target of [...merged, file('memory.diff')]) await flipBit(target);
    const refused = await drive.refusal(drive.resume(sandboxId));
    expect(refused).toMatchObject({ code: 'integrity', details: { disk_intact: true } });
    await flipBit(file('memory.diff'));
    expect(await drive.resume(sandboxId)).toMatchObject({ startPath: 'resume' });
    await expectWritten();
  });

  it('a state of another QEMU is not loaded: the sandbox starts from its disk and says why', async () => {
    await drive.pause(sandboxId);
    generationId = (await drive.info(sandboxId)).generationId as GenerationId;
    await agent.stop('SIGTERM');
    const manifest = parseGenerationManifest(await readFile(file('manifest.json'), 'utf8'));
    if (!manifest.vmm) throw new Error('a generation with memory names its VMM');
    await writeFile(
      file('manifest.json'),
      formatManifest('generation', { ...manifest, vmm: { ...manifest.vmm, version: '1.2.3' } }),
    );
    await agent.start();
    const resumed = await drive.resume(sandboxId);
    expect(resumed?.startPath).toBe('cold_fallback');
    expect(resumed?.reason).toMatch(/version was 1\.2\.3, is \d/);
    expect(await drive.sh(sandboxId, 'cat /root/mark')).toBe(String(mark));
    await write();
    await drive.pause(sandboxId);
    await drive.resume(sandboxId);
    await expectWritten();
  });

  /** The files that the background put the generation's memory together in. */
  async function mergedMemory(): Promise<string[]> {
    const directory = path.join(agent.dataDir, 'host/merged');
    const { stdout } = await runProgram('find', [directory, '-path', `*/${generationId}.*`, '-name', 'memory.*']);
    return stdout
      .toString()
      .split('\n')
      .filter((name) => name !== '');
  }
});

describe('a host that restarts', () => {
  it('brings paused sandboxes back as they were, and says of running ones what became of them', async () => {
    await write();
    const paused = await drive.create();
    await drive.sh(paused, 'echo paused > /dev/shm/mark');
    await drive.pause(paused);
    const neverPaused = await drive.create();
    await drive.sh(neverPaused, 'echo only on disk > /root/mark; sync');
    await drive.pause(sandboxId);
    await drive.resume(sandboxId);
    const pids = [await drive.vmmPid(sandboxId), await drive.vmmPid(neverPaused)];
    const { namespaces } = await agent.holdings();
    await agent.stop('SIGKILL');
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    for (const name of namespaces) await runProgram('ip', ['netns', 'delete', name]);
    await agent.start();
    expect(await drive.state(paused)).toBe('PAUSED');
    for (const lost of [sandboxId, neverPaused]) {
      expect(await drive.state(lost)).toBe('ERROR');
      expect((await drive.info(lost)).reason).toContain('it was gone when the host agent started');
    }
    expect((await agent.holdings()).processes).toEqual([]);
    for (const one of [paused, sandboxId, neverPaused]) await drive.resume(one);
    expect(await drive.sh(paused, 'cat /dev/shm/mark')).toBe('paused');
    await expectWritten();
    expect(await drive.sh(neverPaused, 'cat /root/mark')).toBe('only on disk');
    expect((await drive.info(neverPaused)).reason).toContain('started from its disk');
    await drive.destroy(paused, neverPaused, sandboxId);
    await drive.expectOnly(0, 0);
    // Collects at its start what only they needed, and what all the crashes before left, if any.
    await agent.stop('SIGTERM');
    await agent.start();
    await drive.expectNothingSaved();
  });
});

async function replaceIn(target: string, from: string, to: string): Promise<void> {
  const text = await readFile(target, 'utf8');
  if (!text.includes(from)) throw new Error(`${target} does not hold ${from}`);
  await writeFile(target, text.replace(from, to));
}
