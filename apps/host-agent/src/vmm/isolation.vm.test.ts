import { closeSync, writeSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { asId, newId, type SandboxId } from '@aviary/core';
import { runProgram } from '@aviary/service-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type AgentHarness, startAgentHarness } from '../testing/agent-harness.ts';
import { SandboxDriver } from '../testing/sandbox-driver.ts';
import { copyWritableDescriptor, takeOverVmm, writableDescriptors } from '../testing/taken-over-vmm.ts';
import { testImages } from '../testing/test-images.ts';

let agent: AgentHarness;
let drive: SandboxDriver;

beforeAll(async () => {
  agent = await startAgentHarness({ imagesFrom: await testImages() });
  drive = new SandboxDriver(agent);
}, 300_000);
afterAll(() => agent?.[Symbol.asyncDispose]());

/** Every file of the host agent's that is not `sandboxId`'s own. */
async function filesOfOthers(own: string): Promise<string[]> {
  const entries = await readdir(agent.dataDir, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() || entry.isSocket())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .filter((file) => !file.startsWith(`${own}/`));
}

interface RunningRecord {
  run: { vmm: { pid: number; runDirectory: string }; disk: { path: string } };
}

async function expectConfined(sandboxId: SandboxId, neighbour: SandboxId): Promise<void> {
  const { run } = (await drive.record(sandboxId)) as unknown as RunningRecord;
  const { vmm } = run;
  const { pid } = vmm;
  const own = path.dirname(vmm.runDirectory);
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const [uid = 0, gid = 0] = ['Uid', 'Gid'].map((name) =>
    Number(new RegExp(`^${name}:\\t(\\d+)\\t\\1\\t\\1\\t\\1$`, 'm').exec(status)?.[1]),
  );
  expect(uid).toBeGreaterThan(0);
  expect(status).toMatch(/^NoNewPrivs:\t1$/m);
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
    expect(status).toMatch(new RegExp(`^${set}:\t0+$`, 'm'));

  const others = await filesOfOthers(own);
  const neighbourDirectory = path.dirname(
    ((await drive.record(neighbour)) as unknown as RunningRecord).run.vmm.runDirectory,
  );
  expect(others.filter((file) => file.startsWith(`${neighbourDirectory}/`))).not.toEqual([]);
  for (const name of ['memory.img', 'state.bin', 'disk.layer'])
    expect(others.filter((file) => file.endsWith(`/${name}`))).not.toEqual([]);
  const { visible, written, made, reopened } = await takeOverVmm({ pid, uid, gid, files: others });
  expect(written).toEqual([]);
  expect(made).toEqual([]);
  expect(visible.filter((file) => !file.startsWith(agent.dataDir)).toSorted()).toEqual(
    ['/dev/null', '/dev/urandom', '/dev/net/tun', '/dev/kvm'].filter((file) => visible.includes(file)).toSorted(),
  );
  // The rest of what it sees is its own, or what it reads.
  const read = visible.filter((file) => file.startsWith(agent.dataDir) && !file.startsWith(`${own}/`));
  for (const file of read) expect(file).toMatch(/\/(images|generations)\//);
  expect(visible.some((file) => file.startsWith(`${own}/run/`))).toBe(true);

  const forbidden = new Map<string, string>();
  for (const file of others) {
    const found = await stat(file).catch(() => undefined); // Events and the like come and go.
    if (found) forbidden.set(`${found.dev}:${found.ino}`, file);
  }
  const descriptors = await writableDescriptors(pid);
  expect([...descriptors].filter(([file]) => forbidden.has(file))).toEqual([]);
  for (const file of reopened) {
    const { dev, ino } = await stat(file);
    expect(forbidden.get(`${dev}:${ino}`)).toBeUndefined();
  }
}

it('keeps a taken-over VMM from everything that others read, and from the host, whatever its sandbox has been through', async () => {
  const [first, second] = [await drive.create(), await drive.create()];
  await drive.sh(first, 'echo mark > /root/mark; sync');
  await expectConfined(first, second);
  // Its disk layer becomes others' to read while it runs, and it goes on with another.
  const copy = newId('sandbox');
  expect((await drive.fork(first, [copy])).map(({ error }) => error)).toEqual(['']);
  await expectConfined(first, second);
  await expectConfined(copy, first);
  await drive.pause(second);
  await drive.resume(second);
  await expectConfined(second, first);
  expect(await drive.sh(copy, 'cat /root/mark')).toBe('mark');
  await agent.stop('SIGKILL');
  await agent.start();
  await expectConfined(first, second);
  // Nobody reads what a VMM can still write, as one that keeps a descriptor of the layer that was its own.
  const { run } = (await drive.record(first)) as unknown as RunningRecord;
  const kept = await copyWritableDescriptor(run.vmm.pid, run.disk.path);
  const fork = () =>
    agent.client.forkSandbox(
      { operationId: newId('operation'), sandboxId: first, targets: [{ sandboxId: newId('sandbox') }] },
      { timeoutMs: 120_000 },
    );
  try {
    expect(await drive.refusal(fork())).toMatchObject({ code: 'conflict' });
    // The kernel would let it.
    expect(() => writeSync(kept, Buffer.alloc(0))).not.toThrow();
  } finally {
    closeSync(kept);
  }
  expect(await drive.sh(first, 'cat /root/mark')).toBe('mark');
  const { results } = await fork();
  expect(results.map(({ error }) => error)).toEqual(['']);
  const sandboxes = (await agent.client.listSandboxes({})).sandboxes.map(({ sandboxId }) => sandboxId);
  for (const sandboxId of sandboxes) await drive.destroy(asId('sandbox', sandboxId));
  expect((await runProgram('ls', [path.join(agent.dataDir, 'host/vmm-root')])).stdout).toBe('');
});
