import { newId, type SandboxId } from '@aviary/core';
import { SandboxState } from '@aviary/proto/hostagent';
import { waitFor } from '@aviary/service-kit';
import { readAppError } from '@aviary/service-kit/connect-errors';
import { ConnectError } from '@connectrpc/connect';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type AgentHarness, minimalRequest, startAgentHarness } from './testing/agent-harness.ts';
import { testImages } from './testing/test-images.ts';

let agent: AgentHarness;
/** What the agent is started with, beside what every one in a test gets. */
const settings: Record<string, string> = {};

beforeAll(async () => {
  agent = await startAgentHarness({ imagesFrom: await testImages(), settings });
}, 600_000);
afterAll(() => agent?.[Symbol.asyncDispose]());

async function exec(sandboxId: SandboxId, cmd: string) {
  const result = await agent.client.exec({ sandboxId, cmd: '/bin/sh', args: ['-c', cmd], timeoutSec: 60 });
  return {
    stdout: Buffer.from(result.stdout).toString(),
    stderr: Buffer.from(result.stderr).toString(),
    exitCode: result.end?.exitCode,
  };
}

async function codeOf(call: Promise<unknown>): Promise<string | null> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => ConnectError.from(reason),
  );
  return (error && readAppError(error)?.code) ?? null;
}

async function expectNothingHeld(): Promise<void> {
  await waitFor({ what: 'the host to hold nothing', timeoutMs: 15_000, intervalMs: 100 }, async () => {
    const held = await agent.holdings();
    return held.sandboxDirectories.length === 0 && held.records.length === 0 && held.processes.length === 0;
  }).catch(async (error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(await agent.holdings())}`);
  });
}

describe('a sandbox on its host', () => {
  const sandboxId = newId('sandbox');

  it('is created once, however often it is asked for', async () => {
    const request = minimalRequest(sandboxId);
    const [first, second] = await Promise.all([
      agent.client.createSandbox(request),
      agent.client.createSandbox(request),
    ]);
    expect(first.sandbox?.state).toBe(SandboxState.RUNNING);
    expect(second.sandbox?.hostAddress).toBe(first.sandbox?.hostAddress);
    expect(await codeOf(agent.client.createSandbox(minimalRequest(sandboxId)))).toBe('already_exists');
  });

  it('runs commands as its user, with exit codes and both outputs', async () => {
    expect(await exec(sandboxId, 'id -un; echo bad >&2; exit 3')).toEqual({
      stdout: 'user\n',
      stderr: 'bad\n',
      exitCode: 3,
    });
  });

  it('runs another kernel than its host, and knows its own name', async () => {
    const guest = await exec(sandboxId, 'uname -r; hostname; cat /etc/machine-id');
    const host = (await import('node:os')).release();
    const [kernel, hostname, machineId] = guest.stdout.trim().split('\n');
    expect(kernel).not.toBe(host);
    expect(hostname).toBe(`sb-${sandboxId.replaceAll('-', '').slice(-12)}`);
    expect(machineId).toBe(sandboxId.replaceAll('-', ''));
  });

  it('takes and gives files, binary and large, whole', async () => {
    const content = Buffer.alloc(5 * 1024 * 1024, 'aviary\0\xff', 'latin1');
    const messages = (async function* () {
      yield { content: { case: 'meta' as const, value: { sandboxId, path: '/home/user/deep/er/blob', user: '' } } };
      for (let at = 0; at < content.length; at += 65_536)
        yield { content: { case: 'chunk' as const, value: content.subarray(at, at + 65_536) } };
      yield { content: { case: 'end' as const, value: true } };
    })();
    expect((await agent.client.writeFile(messages)).size).toBe(BigInt(content.length));
    const parts: Uint8Array[] = [];
    for await (const { chunk } of agent.client.readFile({ sandboxId, path: '/home/user/deep/er/blob' }))
      parts.push(chunk);
    expect(Buffer.concat(parts).equals(content)).toBe(true);
    const { entries } = await agent.client.listDir({ sandboxId, path: '/home/user/deep', depth: 2 });
    expect(entries.map(({ path, type, owner }) => ({ path, type, owner }))).toEqual([
      { path: '/home/user/deep/er', type: 'directory', owner: 'user' },
      { path: '/home/user/deep/er/blob', type: 'file', owner: 'user' },
    ]);
  });

  it('keeps to the rights of the user, refuses what is no file, and reads what the kernel makes up', async () => {
    const put = (to: string) =>
      agent.client.writeFile(
        (async function* () {
          yield { content: { case: 'meta' as const, value: { sandboxId, path: to, user: '' } } };
          yield { content: { case: 'end' as const, value: true } };
        })(),
      );
    const get = (from: string) =>
      Array.fromAsync(agent.client.readFile({ sandboxId, path: from }), ({ chunk }) => Buffer.from(chunk).toString());
    await exec(sandboxId, 'mkfifo /home/user/fifo');
    expect(await codeOf(put('/etc/sudoers'))).toBe('forbidden');
    expect(await codeOf(agent.client.removePath({ sandboxId, path: '/etc/passwd' }))).toBe('forbidden');
    const tries = [...Array.from({ length: 6 }, () => put('/home/user/fifo')), get('/home/user/fifo')];
    expect(await Promise.all(tries.map(codeOf))).toEqual(tries.map(() => 'invalid_request'));
    expect((await get('/proc/meminfo')).join('')).toContain('MemTotal');
    expect(await get('/sys/kernel/mm/transparent_hugepage/enabled')).toEqual([expect.stringContaining('[')]);
  });

  it.each([
    ['a missing directory', { cwd: '/nowhere' }, 'invalid_request'],
    ['an unknown user', { user: 'nobody-here' }, 'invalid_request'],
    ['an empty command', { cmd: '' }, 'invalid_request'],
  ])('refuses %s with a reason', async (_what, overrides, code) => {
    expect(await codeOf(agent.client.exec({ sandboxId, cmd: '/bin/true', args: [], ...overrides }))).toBe(code);
  });

  it('refuses a path with a NUL, and tells a missing file', async () => {
    expect(await codeOf(agent.client.makeDir({ sandboxId, path: '/tmp/a\0b' }))).toBe('invalid_request');
    expect(await codeOf(agent.client.listDir({ sandboxId, path: '/tmp/none', depth: 1 }))).toBe('not_found');
  });

  it('goes on beside another agent that starts, works, is killed, and stops', async () => {
    const before = await agent.holdings();
    await using other = await startAgentHarness({ imagesFrom: await testImages() });
    const request = minimalRequest(newId('sandbox'));
    const { sandbox } = await other.client.createSandbox(request);
    const { sandboxes } = await agent.client.listSandboxes({});
    expect(sandbox?.hostAddress).not.toBe(sandboxes[0]?.hostAddress);
    const whoAmI = { sandboxId: request.sandboxId, cmd: '/bin/cat', args: ['/etc/machine-id'] };
    const seen = Buffer.from((await other.client.exec(whoAmI)).stdout)
      .toString()
      .trim();
    expect(seen).toBe(request.sandboxId.replaceAll('-', ''));
    await other.stop('SIGKILL');
    await other.start();
    expect((await other.client.exec(whoAmI)).end?.exitCode).toBe(0);
    await other.stop('SIGTERM');
    expect((await exec(sandboxId, 'cat /etc/machine-id')).stdout.trim()).toBe(sandboxId.replaceAll('-', ''));
    expect(await agent.holdings()).toEqual(before);
  });

  it('is adopted by the next agent after a kill -9, with what runs in it, whatever the settings say now', async () => {
    await exec(sandboxId, 'nohup sleep 1000 >/dev/null 2>&1 & echo started');
    await agent.stop('SIGKILL');
    settings['AVIARY_NETWORK_PREFIX'] = 'elsewhr';
    await agent.start();
    delete settings['AVIARY_NETWORK_PREFIX'];
    expect(agent.log()).toContain('settings take effect once no sandbox of this host runs');
    const { sandboxes } = await agent.client.listSandboxes({});
    expect(sandboxes.map(({ state }) => state)).toEqual([SandboxState.RUNNING]);
    expect((await exec(sandboxId, 'pgrep -c sleep')).stdout.trim()).toBe('1');
  });

  it('tells the truth within 5 s when its microVM is killed', async () => {
    const before = await agent.holdings();
    const vmm = before.processes.find((line) => line.includes('qemu'));
    process.kill(Number(vmm?.split(' ')[0]), 'SIGKILL');
    await waitFor({ what: 'the event', timeoutMs: 5_000 }, () =>
      agent.controlPlane.events.some(({ event }) => event === 'sandbox.error'),
    );
    const { sandboxes } = await agent.client.listSandboxes({});
    expect(sandboxes[0]?.state).toBe(SandboxState.ERROR);
    expect(sandboxes[0]?.reason).toContain('the microVM ended');
    expect(await codeOf(exec(sandboxId, 'true'))).toBe('invalid_state');
  });

  it('leaves nothing behind when destroyed, twice', async () => {
    const request = { operationId: newId('operation'), sandboxId };
    await agent.client.destroySandbox(request);
    await agent.client.destroySandbox(request);
    await expectNothingHeld();
  });
});

describe('bad requests', () => {
  it.each([
    ['no vCPUs', { vcpus: 0 }, 'invalid_request'],
    ['too much memory', { memoryMib: 10_000_000 }, 'invalid_request'],
    ['an unknown template', { template: { teamId: newId('team'), templateId: newId('template') } }, 'not_found'],
    ['a malformed id', { sandboxId: '../../etc' }, 'invalid_request'],
  ])('%s', async (_what, overrides, code) => {
    expect(await codeOf(agent.client.createSandbox({ ...minimalRequest(newId('sandbox')), ...overrides }))).toBe(code);
    await expectNothingHeld();
  });

  it('refuses callers without this host’s token', async () => {
    const { createClient } = await import('@connectrpc/connect');
    const { createConnectTransport } = await import('@connectrpc/connect-node');
    const { HostAgent } = await import('@aviary/proto/hostagent');
    const baseUrl = agent.url();
    for (const token of ['', await agent.controlPlane.signToken({ audience: newId('host') })]) {
      const transport = createConnectTransport({
        baseUrl,
        httpVersion: '2',
        interceptors: [
          (next) => (request) => {
            if (token) request.header.set('Authorization', `Bearer ${token}`);
            return next(request);
          },
        ],
      });
      expect(await codeOf(createClient(HostAgent, transport).listSandboxes({}))).toBe('unauthorized');
    }
  });
});

/** What a failed test leaves must not fail the next one. */
async function destroyAll(): Promise<void> {
  const { sandboxes } = await agent.client.listSandboxes({});
  for (const { sandboxId } of sandboxes)
    await agent.client.destroySandbox({ operationId: newId('operation'), sandboxId });
}

describe('an agent killed in the middle', () => {
  afterEach(destroyAll);
  it.each([
    'create.before-slot',
    'create.after-slot',
    'create.after-disk',
    'resume.after-spawn',
    'create.after-init',
    'create.before-running',
  ])('at %s: the next agent undoes it, and the same command succeeds', async (point) => {
    await agent.stop('SIGTERM');
    await agent.start(`${point}:kill`);
    const request = minimalRequest(newId('sandbox'));
    await expect(agent.client.createSandbox(request)).rejects.toThrow();
    await agent.waitExit();
    await agent.start();
    await expectNothingHeld();
    const { sandbox } = await agent.client.createSandbox(request);
    expect(sandbox?.state).toBe(SandboxState.RUNNING);
    await agent.client.destroySandbox({ operationId: newId('operation'), sandboxId: request.sandboxId });
    await expectNothingHeld();
  });

  it.each(['destroy.after-journal', 'destroy.after-release', 'destroy.after-files'])(
    'at %s: the next agent finishes it',
    async (point) => {
      await agent.stop('SIGTERM');
      await agent.start(`${point}:kill`);
      const request = minimalRequest(newId('sandbox'));
      await agent.client.createSandbox(request);
      await expect(
        agent.client.destroySandbox({ operationId: newId('operation'), sandboxId: request.sandboxId }),
      ).rejects.toThrow();
      await agent.waitExit();
      await agent.start();
      await expectNothingHeld();
    },
  );
});

describe('a full disk', () => {
  afterEach(destroyAll);
  it.each(['create.after-slot:enospc', 'create.after-disk:enospc', 'create.before-running:enospc'])(
    'at %s gives a clear error and undoes everything',
    async (fault) => {
      await agent.stop('SIGTERM');
      await agent.start(fault);
      expect(await codeOf(agent.client.createSandbox(minimalRequest(newId('sandbox'))))).toBe('disk_full');
      await expectNothingHeld();
    },
  );
});
