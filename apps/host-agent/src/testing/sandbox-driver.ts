import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { newId, type SandboxId, type TeamId, type TemplateId } from '@aviary/core';
import { type ForkResult, type GenerationInfo, type SandboxInfo, SandboxState } from '@aviary/proto/hostagent';
import { waitFor } from '@aviary/service-kit';
import { readAppError } from '@aviary/service-kit/connect-errors';
import { ConnectError } from '@connectrpc/connect';
import { type AgentHarness, minimalRequest } from './agent-harness.ts';
import { patienceMs } from './patience.ts';

/** Longest that one command to the agent may take in a test. */
const commandTimeoutMs = patienceMs(90_000);

/** A refused command, as the control plane sees it. */
export interface Refusal {
  code: string | null;
  message: string;
  details: Record<string, unknown>;
}

/** What tests do with the sandboxes of one agent, each in one word. */
export class SandboxDriver {
  readonly agent: AgentHarness;

  constructor(agent: AgentHarness) {
    this.agent = agent;
  }

  async create(overrides: Partial<ReturnType<typeof minimalRequest>> = {}): Promise<SandboxId> {
    const sandboxId = newId('sandbox');
    await this.agent.client.createSandbox(
      { ...minimalRequest(sandboxId), ...overrides },
      { timeoutMs: commandTimeoutMs },
    );
    return sandboxId;
  }

  /** Runs a shell script in the guest and gives its output, trimmed. Throws when it fails. */
  async sh(sandboxId: SandboxId, script: string, { user = 'root' } = {}): Promise<string> {
    const { stdout, stderr, end } = await this.agent.client.exec(
      { sandboxId, cmd: '/bin/sh', args: ['-c', script], timeoutSec: 60, user },
      { timeoutMs: commandTimeoutMs },
    );
    if (end?.exitCode !== 0)
      throw new Error(`exit code ${end?.exitCode}: ${script}\n${Buffer.from(stderr).toString()}`);
    return Buffer.from(stdout).toString().trim();
  }

  async pause(
    sandboxId: SandboxId,
    operationId: string = newId('operation'),
    { force = false } = {},
  ): Promise<GenerationInfo | undefined> {
    const { generation } = await this.agent.client.pauseSandbox(
      { sandboxId, operationId, force },
      { timeoutMs: commandTimeoutMs },
    );
    return generation;
  }

  async resume(
    sandboxId: SandboxId,
    options: { operationId?: string; timeoutSec?: number; generationId?: string; cold?: boolean } = {},
  ): Promise<SandboxInfo | undefined> {
    const { sandbox } = await this.agent.client.resumeSandbox(
      { operationId: newId('operation'), sandboxId, ...options },
      { timeoutMs: commandTimeoutMs },
    );
    return sandbox;
  }

  async fork(
    sandboxId: SandboxId,
    targets: readonly SandboxId[],
    operationId: string = newId('operation'),
  ): Promise<ForkResult[]> {
    const { results } = await this.agent.client.forkSandbox(
      { operationId, sandboxId, targets: targets.map((target) => ({ sandboxId: target })) },
      { timeoutMs: 2 * commandTimeoutMs },
    );
    return results;
  }

  async snapshot(
    sandboxId: SandboxId,
    template: { teamId: TeamId; templateId: TemplateId },
    operationId: string = newId('operation'),
  ) {
    return this.agent.client.createSnapshot({ operationId, sandboxId, template }, { timeoutMs: commandTimeoutMs });
  }

  async destroy(...sandboxIds: readonly SandboxId[]): Promise<void> {
    for (const sandboxId of sandboxIds)
      await this.agent.client.destroySandbox(
        { operationId: newId('operation'), sandboxId },
        { timeoutMs: commandTimeoutMs },
      );
  }

  async generations(sandboxId: SandboxId): Promise<GenerationInfo[]> {
    return (await this.agent.client.listGenerations({ sandboxId })).generations;
  }

  /** What the agent says about a sandbox. Throws when it says nothing. */
  async info(sandboxId: SandboxId): Promise<SandboxInfo> {
    const { sandboxes } = await this.agent.client.listSandboxes({});
    const found = sandboxes.find((one) => one.sandboxId === sandboxId);
    if (!found) throw new Error(`the agent does not list sandbox ${sandboxId}`);
    return found;
  }

  async state(sandboxId: SandboxId): Promise<string> {
    return SandboxState[(await this.info(sandboxId)).state];
  }

  /** The sandbox's journal file: what would be known after a crash. */
  async record(sandboxId: SandboxId): Promise<Record<string, unknown> & { accessToken: string }> {
    const file = path.join(this.agent.dataDir, 'host/journal', `${sandboxId}.json`);
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown> & { accessToken: string };
  }

  /** The process id of the VMM that runs a sandbox. */
  async vmmPid(sandboxId: SandboxId): Promise<number> {
    const { run } = (await this.record(sandboxId)) as { run?: { vmm: { pid: number } } };
    if (!run) throw new Error(`sandbox ${sandboxId} has no VMM`);
    return run.vmm.pid;
  }

  /** Why a call was refused. Throws when it was not. */
  async refusal(call: Promise<unknown>): Promise<Refusal> {
    const error = await call.then(
      () => undefined,
      (reason: unknown) => ConnectError.from(reason),
    );
    if (!error) throw new Error('the call succeeded, though it must not');
    const named = readAppError(error);
    return { code: named?.code ?? null, message: error.rawMessage, details: named?.details ?? {} };
  }

  /** Starts the agent with a fault, runs `command`, waits until the agent dies of it, then or soon after, and starts it anew without. */
  async crashAt(point: string, command: () => Promise<unknown>): Promise<void> {
    await this.dieAt(point, command);
    await this.agent.start();
  }

  /** As {@link crashAt}, but leaves the agent dead. Without a `command` it dies of what it does unasked when it starts. */
  async dieAt(point: string, command?: () => Promise<unknown>): Promise<void> {
    await this.agent.stop();
    const started = this.agent.start(`${point}:kill`);
    await (command ? started : started.catch(() => undefined));
    await command?.().catch(() => undefined);
    let isDead = false;
    void this.agent.waitExit().then(() => {
      isDead = true;
    });
    await waitFor(
      { what: `the agent's death at ${point}`, timeoutMs: patienceMs(20_000), intervalMs: 10 },
      async () => isDead,
    );
  }

  /** Waits until the host holds exactly what `sandboxIds` need: a VMM and a directory for each that runs, a record for each. */
  async expectOnly(running: number, records: number): Promise<void> {
    const count = async () => {
      const { processes, records: kept, sandboxDirectories } = await this.agent.holdings();
      const vmms = processes.filter((line) => line.includes('qemu-system-')).length;
      const drafts = await this.drafts();
      const isExact =
        vmms === running && kept.length === records && sandboxDirectories.length === running && drafts.length === 0;
      return isExact ? undefined : { processes, records: kept, sandboxDirectories, drafts };
    };
    await waitFor(
      { what: `only ${running} running of ${records} sandboxes`, timeoutMs: patienceMs(15_000), intervalMs: 50 },
      async () => (await count()) === undefined,
    ).catch(async (error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(await count())}`);
    });
  }

  /** Files of a saved state, and its forms that the background put together; empty when it is gone. */
  async saved(generationId: string): Promise<{ parts: string[]; merged: string[] }> {
    const list = (directory: string) =>
      readdir(path.join(this.agent.dataDir, 'host', directory)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return [];
        throw error;
      });
    const parts = await list(`generations/${generationId}`);
    const merged = (await list('merged')).filter((name) => name.startsWith(`${generationId}.`));
    return { parts: parts.toSorted(), merged };
  }

  /** Waits until no saved state is left but those that new sandboxes start from. */
  async expectNothingSaved(): Promise<void> {
    const host = path.join(this.agent.dataDir, 'host');
    const boot = path.join(host, 'boot-snapshots');
    const kept = async () =>
      Promise.all((await readdir(boot)).map(async (name) => (await readFile(path.join(boot, name), 'utf8')).trim()));
    const excess = async () => {
      const generations = await readdir(path.join(host, 'generations'));
      const known = new Set(await kept());
      return [...generations.filter((id) => !known.has(id)), ...(await readdir(path.join(host, 'merged')))];
    };
    await waitFor(
      { what: 'an empty store of saved states', timeoutMs: patienceMs(15_000), intervalMs: 50 },
      async () => (await excess()).length === 0,
    ).catch(async (error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(await excess())}`);
    });
  }

  /** Unfinished files in the stores of saved states. */
  async drafts(): Promise<string[]> {
    const names: string[] = [];
    for (const directory of ['host/generations', 'host/merged', 'host/journal'])
      names.push(...(await readdir(path.join(this.agent.dataDir, directory))).filter((name) => name.includes('.tmp-')));
    return names;
  }
}
