import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { newId, type SandboxId } from '@aviary/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentHarness, startAgentHarness } from './testing/agent-harness.ts';
import { SandboxDriver } from './testing/sandbox-driver.ts';
import { testImages } from './testing/test-images.ts';

// Guests under KVM, on a machine with one unified tree of cgroups: what the software CPU cannot show.
let agent: AgentHarness;
let drive: SandboxDriver;
let sandboxId: SandboxId;
/** What the agent is started with, beside what every one in a test gets. */
const settings: Record<string, string> = {};

beforeAll(async () => {
  agent = await startAgentHarness({ imagesFrom: await testImages(), settings });
  drive = new SandboxDriver(agent);
});
afterAll(() => agent?.[Symbol.asyncDispose]());

const inHost = (...names: string[]) => path.join(agent.dataDir, 'host', ...names);
const newestManifest = async (id: string) =>
  JSON.parse(await readFile(inHost('generations', id, 'manifest.json'), 'utf8')) as {
    manifest: { vmm: Record<string, string> };
  };

/** How far the guest's clock is from the host's, in seconds. */
async function clockErrorSec(id: SandboxId): Promise<number> {
  const before = Date.now();
  const guest = Number(await drive.sh(id, 'date +%s%N')) / 1e6;
  const after = Date.now();
  return Math.max(before - guest, guest - after, 0) / 1_000;
}

describe('a sandbox with KVM', () => {
  it('is created, and its guest has KVM’s clock; the agent tried it first', async () => {
    expect(JSON.parse(await readFile(inHost('accelerator.json'), 'utf8'))).toMatchObject({ note: null });
    sandboxId = await drive.create();
    const info = await drive.info(sandboxId);
    expect(info.metadata).toMatchObject({ accelerator: 'kvm' });
    const command = await readFile(`/proc/${await drive.vmmPid(sandboxId)}/cmdline`, 'utf8');
    expect(command).toContain('-accel\0kvm\0-cpu\0host\0');
    expect(
      await drive.sh(sandboxId, 'id -un; cat /sys/devices/system/clocksource/clocksource0/current_clocksource'),
    ).toBe('root\nkvm-clock');
  });

  it('is limited in the unified tree of cgroups', async () => {
    const cgroup = (await readFile(`/proc/${await drive.vmmPid(sandboxId)}/cgroup`, 'utf8')).trim();
    expect(cgroup).toMatch(/^0::\/aviary-/);
    const directory = path.join('/sys/fs/cgroup', cgroup.slice('0::'.length));
    const limits = ['memory.max', 'cpu.max', 'pids.max'].map((file) => readFile(path.join(directory, file), 'utf8'));
    for (const limit of await Promise.all(limits)) expect(limit).toMatch(/^\d/);
  });

  it('pauses and resumes with memory, files, processes and the right time', async () => {
    await drive.sh(sandboxId, 'echo on disk > /root/mark; echo in memory > /dev/shm/mark');
    await drive.sh(sandboxId, "nohup sh -c 'while :; do date +%s%N > /dev/shm/alive; sleep 1; done' >/dev/null 2>&1 &");
    const saved = await drive.pause(sandboxId);
    const { manifest } = await newestManifest(saved?.generationId ?? '');
    expect(manifest.vmm).toMatchObject({ accelerator: 'kvm', cpuModel: expect.stringMatching(/^host:AuthenticAMD-/) });
    const resumed = await drive.resume(sandboxId);
    expect(resumed).toMatchObject({ startPath: 'resume', reason: '' });
    expect(await drive.sh(sandboxId, 'cat /root/mark /dev/shm/mark')).toBe('on disk\nin memory');
    expect(await clockErrorSec(sandboxId)).toBeLessThan(2);
    const before = await drive.sh(sandboxId, 'cat /dev/shm/alive');
    await expect.poll(() => drive.sh(sandboxId, 'cat /dev/shm/alive'), { timeout: 60_000 }).not.toBe(before);
  });

  it('forks, and goes back to an earlier generation', async () => {
    const first = await drive.pause(sandboxId);
    await drive.resume(sandboxId);
    await drive.sh(sandboxId, 'echo changed > /root/mark; echo changed > /dev/shm/mark');
    const copies: SandboxId[] = [newId('sandbox'), newId('sandbox')];
    expect((await drive.fork(sandboxId, copies)).map(({ error }) => error)).toEqual(['', '']);
    for (const copy of copies) expect(await drive.sh(copy, 'cat /root/mark /dev/shm/mark')).toBe('changed\nchanged');
    await drive.destroy(...copies);
    await drive.pause(sandboxId);
    await drive.resume(sandboxId, { generationId: first?.generationId ?? '' });
    expect(await drive.sh(sandboxId, 'cat /root/mark /dev/shm/mark')).toBe('on disk\nin memory');
  });
});

describe('the next agent', () => {
  it('finds the sandbox again', async () => {
    const pid = await drive.vmmPid(sandboxId);
    await agent.stop('SIGKILL');
    await agent.start();
    expect(await drive.vmmPid(sandboxId)).toBe(pid);
    expect(await drive.sh(sandboxId, 'cat /dev/shm/mark')).toBe('in memory');
  });

  it('starts it from its disk where the processor is another one, and says so', async () => {
    const saved = await drive.pause(sandboxId);
    await agent.stop('SIGTERM');
    // As on a host that was given a fixed model: what `host` was is not what it offers.
    settings['AVIARY_CPU_MODEL'] = 'qemu64';
    await agent.start();
    const resumed = await drive.resume(sandboxId);
    expect(resumed).toMatchObject({ startPath: 'cold_fallback', reason: expect.stringContaining('qemu64') });
    expect(await drive.sh(sandboxId, 'cat /root/mark; ls /dev/shm')).toBe('on disk');
    expect(saved).toBeDefined();
    await drive.destroy(sandboxId);
    await drive.expectOnly(0, 0);
  });
});
