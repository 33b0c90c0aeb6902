import { AppError, asId, checkSandboxSizes, execLimits, minimalTemplateId, must, uuidv7 } from '@aviary/core';
import {
  type CreateSandboxRequest,
  type ExecRequest,
  type GenerationInfo,
  GenerationInfoSchema,
  type HostAgent,
  type SandboxInfo,
  SandboxInfoSchema,
  SandboxState,
} from '@aviary/proto/hostagent';
import { create } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import { FakeCommands, type FakeExecResult } from './fake-commands.ts';
import { FakeFiles } from './fake-files.ts';

interface FakeSandbox {
  info: SandboxInfo;
  files: FakeFiles;
  generations: FakeGeneration[];
  /** The command that brought it to its present state. */
  lastOperationId: string;
}

interface FakeGeneration {
  info: GenerationInfo;
  files: FakeFiles;
}

interface FakeTemplate {
  operationId: string;
  files: FakeFiles;
  size: Pick<SandboxInfo, 'vcpus' | 'memoryMib' | 'diskMib'>;
}

/** The sandboxes of a fake host, with the same rules on states and operation ids as a real one. */
export class FakeSandboxes {
  readonly #sandboxes = new Map<string, FakeSandbox>();
  readonly #templates = new Map<string, FakeTemplate>();
  /** Answers commands; by default it writes the command line to standard output. */
  exec: (request: ExecRequest) => FakeExecResult = ({ cmd, args }) => ({
    stdout: Buffer.from(`${(cmd === '/bin/sh' ? args.slice(1) : [cmd, ...args]).join(' ')}\n`),
  });
  /** Ids of sandboxes whose guest does not answer: they can only be stopped by force. */
  readonly hung = new Set<string>();
  /** Told how far uploads came. */
  readonly observe = { writeFile: (_progress: 'begun' | 'broken' | 'whole'): unknown => undefined };
  readonly #failingCopies: AppError[] = [];
  readonly commands = new FakeCommands();
  /** Times that work was done rather than answered from a known operation id. */
  readonly work: string[] = [];

  list(): SandboxInfo[] {
    return [...this.#sandboxes.values()].map(({ info }) => info);
  }

  get(sandboxId: string): SandboxInfo | undefined {
    return this.#sandboxes.get(sandboxId)?.info;
  }

  /** Puts a sandbox here behind the control plane's back. */
  plant(sandboxId: string, state = SandboxState.RUNNING, createdAtMs = Date.now()): void {
    const info = create(SandboxInfoSchema, {
      sandboxId,
      state,
      createdAtUnixMs: BigInt(createdAtMs),
      startedAtUnixMs: BigInt(createdAtMs),
    });
    this.#sandboxes.set(sandboxId, { info, files: new FakeFiles(), generations: [], lastOperationId: '' });
  }

  /** Loses a sandbox, as a host does whose disk was replaced. */
  lose(sandboxId: string): void {
    this.#sandboxes.delete(sandboxId);
  }

  /** Makes the next `count` copies of forks fail with `error`, each by itself. */
  failCopies(error: AppError, count: number): void {
    this.#failingCopies.push(...Array.from({ length: count }, () => error));
  }

  setState(sandboxId: string, state: SandboxState): void {
    this.#find(sandboxId).info.state = state;
  }

  service(): ServiceImpl<typeof HostAgent> {
    return { ...this.#lifeRoutes(), ...this.#savedStateRoutes(), ...this.#guestRoutes() };
  }

  #lifeRoutes() {
    return {
      createSandbox: (request) => {
        const known = this.#sandboxes.get(checkId(request.sandboxId));
        if (known?.lastOperationId === request.operationId) return { sandbox: known.info };
        checkSandboxSizes(request);
        if (known) throw new AppError('already_exists', 'a sandbox with this id is on this host already');
        const template = this.#resolve(request.template);
        const { vcpus, memoryMib, diskMib } = request;
        const { size } = template ?? {};
        if (size && (size.vcpus !== vcpus || size.memoryMib !== memoryMib || size.diskMib !== diskMib))
          throw new AppError('invalid_request', 'the template has another size', { details: { field: 'template' } });
        this.plant(request.sandboxId);
        const sandbox = this.#find(request.sandboxId);
        sandbox.lastOperationId = request.operationId;
        if (template) sandbox.files = template.files.copy();
        Object.assign(sandbox.info, {
          teamId: request.teamId,
          templateId: request.template?.templateId ?? '',
          ...{ vcpus, memoryMib, diskMib },
          timeoutSec: request.timeoutSec,
          startPath: template ? 'restore' : 'cold_boot',
        });
        this.work.push('create');
        return { sandbox: sandbox.info, phases: [{ name: 'boot', ms: 1.5 }] };
      },
      destroySandbox: ({ sandboxId }) => {
        this.#sandboxes.delete(sandboxId);
        return {};
      },
      pauseSandbox: ({ sandboxId, operationId, force }) => {
        const sandbox = this.#find(sandboxId);
        const { info, generations } = sandbox;
        if (sandbox.lastOperationId === operationId) {
          const saved = generations.find((one) => one.info.generationId === info.generationId);
          return { sandbox: info, ...(saved ? { generation: saved.info } : {}) };
        }
        this.#running(sandboxId);
        const isHung = this.hung.delete(sandboxId);
        if (isHung && !force) {
          this.hung.add(sandboxId);
          throw new AppError('guest_unavailable', 'the guest agent does not answer');
        }
        const { info: generation } = this.#save(sandbox, 'pause');
        generation.hasMemory = !isHung;
        Object.assign(info, { state: SandboxState.PAUSED, reason: isHung ? 'stopped hard' : '' });
        sandbox.lastOperationId = operationId;
        this.work.push('pause');
        return { sandbox: info, generation };
      },
      resumeSandbox: ({ sandboxId, operationId, generationId, timeoutSec, cold }) => {
        const sandbox = this.#find(sandboxId);
        const { info } = sandbox;
        if (sandbox.lastOperationId === operationId) return { sandbox: info };
        const isStopped = info.state === SandboxState.PAUSED || info.state === SandboxState.ERROR;
        if (!isStopped && !(info.state === SandboxState.RUNNING && generationId)) throw wrongState(info);
        const wanted = generationId || info.generationId;
        const from = sandbox.generations.find((one) => one.info.generationId === wanted);
        if (wanted && !from) throw new AppError('not_found', 'there is no such generation');
        if (info.state === SandboxState.RUNNING) this.#save(sandbox, 'pause');
        if (from) sandbox.files = from.files.copy();
        Object.assign(info, {
          state: SandboxState.RUNNING,
          generationId: wanted,
          startPath: cold ? 'cold_fallback' : 'resume',
          reason: cold ? 'started from its disk, memory left aside: a cold start was asked for' : '',
          timeoutSec,
        });
        sandbox.lastOperationId = operationId;
        this.work.push('resume');
        return { sandbox: info };
      },
      listSandboxes: () => ({ sandboxes: this.list(), hostTimeUnixMs: BigInt(Date.now()) }),
      pingSandbox: ({ sandboxId }) => ({ sandbox: this.#running(sandboxId).info }),
      setTimeout: ({ sandboxId, timeoutSec }) => {
        this.#find(sandboxId).info.timeoutSec = timeoutSec;
        return {};
      },
      pauseAll: () => {
        const running = this.list().filter((info) => info.state === SandboxState.RUNNING);
        for (const info of running) {
          this.#save(this.#find(info.sandboxId), 'host_shutdown');
          Object.assign(info, { state: SandboxState.PAUSED, reason: 'paused because its host was asked to pause all' });
        }
        return { pausedSandboxIds: running.map((info) => info.sandboxId), failures: {} };
      },
    } satisfies Partial<ServiceImpl<typeof HostAgent>>;
  }

  #savedStateRoutes() {
    return {
      forkSandbox: ({ sandboxId, operationId, targets, timeoutSec }) => {
        const source = this.#find(sandboxId);
        const current = source.generations.find((one) => one.info.generationId === source.info.generationId);
        const isRepeated = targets.some(
          (target) => this.#sandboxes.get(target.sandboxId)?.lastOperationId === operationId,
        );
        const isSaved = current && (isRepeated || source.info.state === SandboxState.PAUSED);
        const saved = isSaved ? current : this.#save(this.#running(sandboxId), 'fork');
        const results = targets.map((target) => {
          const known = this.#sandboxes.get(target.sandboxId);
          if (known?.lastOperationId === operationId) return { sandboxId: target.sandboxId, sandbox: known.info };
          if (known) return { sandboxId: target.sandboxId, error: 'a sandbox with this id is on this host already' };
          const failure = this.#failingCopies.shift();
          if (failure)
            return { sandboxId: target.sandboxId, error: failure.message, errorCode: failure.code, phases: [] };
          this.plant(target.sandboxId);
          const copy = this.#find(target.sandboxId);
          Object.assign(copy, { files: saved.files.copy(), lastOperationId: operationId });
          const { teamId, templateId, vcpus, memoryMib, diskMib } = source.info;
          Object.assign(copy.info, { teamId, templateId, vcpus, memoryMib, diskMib, timeoutSec, startPath: 'restore' });
          this.work.push('fork');
          return { sandboxId: target.sandboxId, sandbox: copy.info };
        });
        return { results, generation: saved.info };
      },
      createSnapshot: ({ sandboxId, operationId, template }) => {
        const { templateId } = must(template, 'a snapshot names its template');
        const known = this.#templates.get(templateId);
        if (known?.operationId === operationId) return { sizeBytes: 4096n, ...known.size };
        const sandbox = this.#find(sandboxId);
        if (sandbox.info.state !== SandboxState.PAUSED) this.#running(sandboxId);
        const { vcpus, memoryMib, diskMib } = sandbox.info;
        const size = { vcpus, memoryMib, diskMib };
        this.#templates.set(templateId, { operationId, files: sandbox.files.copy(), size });
        this.work.push('snapshot');
        return { sizeBytes: 4096n, ...size };
      },
      deleteSnapshot: ({ template }) => {
        this.#templates.delete(template?.templateId ?? '');
        return { deferred: false };
      },
      listGenerations: ({ sandboxId }) => {
        const { generations, info: sandbox } = this.#find(sandboxId);
        for (const { info } of generations) info.current = info.generationId === sandbox.generationId;
        return { generations: generations.map(({ info }) => info) };
      },
      updateGeneration: ({ sandboxId, generationId, name, pinned }) => {
        const generation = this.#find(sandboxId).generations.find(
          ({ info }) => info.generationId === generationId,
        )?.info;
        if (!generation) throw new AppError('not_found', 'this sandbox has no such generation');
        if (name !== undefined) generation.name = name;
        if (pinned !== undefined) generation.pinned = pinned;
        return { generation };
      },
    } satisfies Partial<ServiceImpl<typeof HostAgent>>;
  }

  #guestRoutes() {
    return {
      exec: (request, { signal }) => {
        this.#checkExec(request);
        this.work.push('exec');
        return this.commands.runToEnd(request, { result: this.exec(request), signal });
      },
      execStream: (request, { signal }) => this.#stream(request, signal),
      execInput: ({ sandboxId, ...input }) => {
        this.#running(sandboxId);
        return { open: this.commands.write(input) };
      },
      execSignal: ({ sandboxId, pid, signal }) => {
        this.#running(sandboxId);
        return { sent: this.commands.signal(pid, signal) };
      },
      writeFile: async (messages) => {
        let target: { sandboxId: string; path: string } | undefined;
        const chunks: Uint8Array[] = [];
        let isWhole = false;
        try {
          for await (const { content } of messages) {
            if (content.case === 'meta') target = content.value;
            else if (!target) break;
            else if (content.case === 'chunk') chunks.push(content.value);
            isWhole = content.case === 'end' && content.value;
            this.observe.writeFile('begun');
          }
        } finally {
          this.observe.writeFile(isWhole ? 'whole' : 'broken');
        }
        if (!target) throw new AppError('invalid_request', 'the first message must be `meta`');
        if (!isWhole) throw new AppError('cancelled', 'the upload broke off before its end');
        const bytes = Buffer.concat(chunks);
        this.#running(target.sandboxId).files.write(target.path, bytes);
        return { size: BigInt(bytes.length) };
      },
      readFile: (request) => this.#read(request),
      listDir: ({ sandboxId, path, ...page }) => {
        const { entries, next } = this.#running(sandboxId).files.page(path, page);
        return { entries, nextCursor: next };
      },
      makeDir: ({ sandboxId, path }) => {
        const entry = this.#running(sandboxId).files.makeDirectory(path);
        this.work.push('mkdir');
        return { entry };
      },
      removePath: ({ sandboxId, path }) => {
        this.#running(sandboxId).files.remove(path);
        return {};
      },
    } satisfies Partial<ServiceImpl<typeof HostAgent>>;
  }

  async *#stream(request: ExecRequest, signal: AbortSignal) {
    this.#checkExec(request);
    yield* this.commands.run(request, { result: this.exec(request), signal });
  }

  async *#read({ sandboxId, path }: { sandboxId: string; path: string }) {
    const content = this.#running(sandboxId).files.read(path);
    const half = Math.ceil(content.length / 2);
    yield { chunk: content.subarray(0, half) };
    yield { chunk: content.subarray(half) };
  }

  #checkExec({ sandboxId, cmd, stdin }: ExecRequest): void {
    this.#running(sandboxId);
    if (cmd === '') throw new AppError('invalid_request', 'cmd must not be empty', { details: { field: 'cmd' } });
    if (stdin.byteLength > execLimits.maxStdinBytes)
      throw new AppError('payload_too_large', 'stdin is too large', { details: { field: 'stdin' } });
  }

  #find(sandboxId: string): FakeSandbox {
    const sandbox = this.#sandboxes.get(checkId(sandboxId));
    if (!sandbox) throw new AppError('not_found', 'this host has no such sandbox');
    return sandbox;
  }

  #running(sandboxId: string): FakeSandbox {
    const sandbox = this.#find(sandboxId);
    if (sandbox.info.state !== SandboxState.RUNNING) throw wrongState(sandbox.info);
    return sandbox;
  }

  /** The snapshot template, or undefined for the built-in one. */
  #resolve(template: CreateSandboxRequest['template']): FakeTemplate | undefined {
    if (template?.templateId === minimalTemplateId) return undefined;
    const known = this.#templates.get(template?.templateId ?? '');
    if (!known)
      throw new AppError('not_found', 'this host does not have the template', { details: { field: 'template' } });
    return known;
  }

  #save({ info, files, generations }: FakeSandbox, cause: string): FakeGeneration {
    const generation = create(GenerationInfoSchema, {
      generationId: uuidv7(),
      parentId: info.generationId,
      cause,
      hasMemory: true,
      memoryBytes: 4096n,
      diskBytes: 512n,
      createdAtUnixMs: BigInt(Date.now()),
    });
    const saved = { info: generation, files: files.copy() };
    generations.push(saved);
    info.generationId = generation.generationId;
    return saved;
  }
}

function checkId(sandboxId: string): string {
  return asId('sandbox', sandboxId);
}

function wrongState({ state, reason }: SandboxInfo): AppError {
  const name = SandboxState[state].toLowerCase();
  return new AppError('invalid_state', `the sandbox is ${name}`, { details: { state: name, reason } });
}
