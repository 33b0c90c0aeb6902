import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { newId, type SandboxId } from '@aviary/core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type AgentHarness, minimalRequest, startAgentHarness } from '../testing/agent-harness.ts';
import { testImages } from '../testing/test-images.ts';

const agentCallMs = 120_000;
const rounds = 3;
let agent: AgentHarness;
const source = newId('sandbox');

beforeAll(async () => {
  agent = await startAgentHarness({ imagesFrom: await testImages(), settings: { AVIARY_WARM_POOL: '0' } });
  await agent.client.createSandbox(minimalRequest(source), { timeoutMs: agentCallMs });
}, 600_000);
afterAll(() => agent?.[Symbol.asyncDispose]());

async function run(sandboxId: SandboxId, line: string, user = ''): Promise<string> {
  const request = { sandboxId, cmd: '/bin/sh', args: ['-c', line], timeoutSec: 60, user };
  const { stdout, stderr, end } = await agent.client.exec(request, { timeoutMs: agentCallMs });
  if (end?.exitCode !== 0) throw new Error(`exit code ${end?.exitCode}: ${Buffer.from(stderr)}`);
  return Buffer.from(stdout).toString().trim();
}

async function fork(sandboxId: SandboxId): Promise<SandboxId> {
  const target = newId('sandbox');
  const request = { operationId: newId('operation'), sandboxId, targets: [{ sandboxId: target }] };
  const { results } = await agent.client.forkSandbox(request, { timeoutMs: agentCallMs });
  expect(results.map(({ error }) => error)).toEqual(['']);
  return target;
}

async function cycle(sandboxId: SandboxId): Promise<void> {
  const options = { timeoutMs: agentCallMs };
  await agent.client.pauseSandbox({ operationId: newId('operation'), sandboxId }, options);
  await agent.client.resumeSandbox({ operationId: newId('operation'), sandboxId }, options);
}

async function destroy(sandboxId: SandboxId): Promise<void> {
  await agent.client.destroySandbox({ operationId: newId('operation'), sandboxId }, { timeoutMs: agentCallMs });
}

/** What is read after this comes from the disk, not from the guest's memory. */
async function dropCaches(sandboxId: SandboxId): Promise<void> {
  await run(sandboxId, 'sync; echo 3 > /proc/sys/vm/drop_caches', 'root');
}

/** The disk files of a sandbox's own, newest last. */
async function layersOf(sandboxId: SandboxId): Promise<string[]> {
  const directory = path.join(agent.dataDir, 'host/sandboxes', sandboxId, 'disk');
  return (await readdir(directory)).toSorted().map((name) => path.join(directory, name));
}

/** Appends a line to a file for ever, flushed each time; every line is numbered. */
const writer = 'i=0; while :; do i=$((i+1)); echo "line $i" >> /home/user/log; sync /home/user/log; sleep 0.3; done';
const lines = "awk '$2 != NR { exit 1 } END { print NR }' /home/user/log";

it('goes on writing while copies of it start, again and again, and both sides keep what they wrote', async () => {
  await run(source, `nohup sh -c '${writer}' >/dev/null 2>&1 & echo started`);
  await run(source, 'head -c 1000000 /dev/urandom > /home/user/blob; sync');
  const digest = await run(source, 'sha256sum < /home/user/blob');
  for (let round = 1; round <= rounds; round++) {
    const [before = ''] = await layersOf(source);
    const inode = (await stat(before)).ino;
    const copy = await fork(source);
    // The layer was handed over, not copied, and the sandbox has a new and nearly empty one.
    const [after = '', ...others] = await layersOf(source);
    expect(others).toEqual([]);
    expect((await stat(after)).blocks * 512).toBeLessThan(2_000_000);
    const generation = path.basename(after, '.layer');
    expect((await stat(path.join(agent.dataDir, 'host/generations', generation, 'disk.layer'))).ino).toBe(inode);
    await Promise.all([
      run(source, `echo ${round} > /home/user/side-${round}`),
      run(copy, 'echo copy > /home/user/side'),
    ]);
    expect(await run(source, 'sha256sum < /home/user/blob; ls /home/user/side* | wc -l; cat /home/user/side-*')).toBe(
      [digest, round, ...Array.from({ length: round }, (_, index) => index + 1)].join('\n'),
    );
    expect(await run(copy, 'sha256sum < /home/user/blob; cat /home/user/side')).toBe(`${digest}\ncopy`);
    if (round === rounds) {
      for (const sandboxId of [source, copy]) {
        const count = Number(await run(sandboxId, lines));
        await run(sandboxId, `until [ $(wc -l < /home/user/log) -gt ${count} ]; do sleep 0.1; done`);
      }
      await cycle(copy);
      await dropCaches(copy);
      expect(await run(copy, `sha256sum < /home/user/blob; cat /home/user/side; ${lines} > /dev/null`)).toBe(
        `${digest}\ncopy`,
      );
    }
    await destroy(copy);
  }
  await cycle(source);
  await dropCaches(source);
  expect(await run(source, `sha256sum < /home/user/blob; cat /home/user/side-*; ${lines} > /dev/null`)).toBe(
    [digest, 1, 2, 3].join('\n'),
  );
});

it.each([
  ['dies with its layer saved and still in use', 'checkpoint.before-switch:kill'],
  ['dies on its new layer', 'checkpoint.after-switch:kill'],
  ['has no space for a new layer', 'checkpoint.before-switch:enospc'],
])('runs on, its files whole, when a checkpoint %s', async (_what, fault) => {
  const digest = await run(source, 'sha256sum < /home/user/blob');
  await agent.stop('SIGTERM');
  await agent.start(fault);
  const targets = [{ sandboxId: newId('sandbox') }];
  const request = { operationId: newId('operation'), sandboxId: source, targets };
  await expect(agent.client.forkSandbox(request, { timeoutMs: agentCallMs })).rejects.toThrow();
  if (fault.endsWith(':kill')) {
    await agent.waitExit();
    await agent.start();
  }
  const count = Number(await run(source, lines));
  await run(source, `until [ $(wc -l < /home/user/log) -gt ${count} ]; do sleep 0.1; done`);
  if (!fault.endsWith('before-switch:kill')) {
    await dropCaches(source);
    expect(await run(source, `sha256sum < /home/user/blob; ${lines} > /dev/null`)).toBe(digest);
    return;
  }
  // Again with the same id, as the control plane does; the copy's disk is what the interrupted checkpoint left.
  const { results } = await agent.client.forkSandbox(request, { timeoutMs: agentCallMs });
  expect(results.map(({ error }) => error)).toEqual(['']);
  for (const sandboxId of [source, ...targets.map((target) => target.sandboxId)]) {
    await dropCaches(sandboxId);
    expect(await run(sandboxId, `sha256sum < /home/user/blob; ${lines} > /dev/null`)).toBe(digest);
  }
  for (const { sandboxId } of targets) await destroy(sandboxId);
});
