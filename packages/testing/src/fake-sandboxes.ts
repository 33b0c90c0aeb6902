import { AppError, must, uuidv7 } from '@aviary/core';
import {
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

interface FakeSandbox {
  info: SandboxInfo;
  files: Map<string, Uint8Array>;
  generations: GenerationInfo[];
}

/** What a command does in a fake sandbox. */
export interface FakeExecResult {
  stdout?: Uint8Array;
  stderr?: Uint8Array;
  exitCode?: number;
}

/** The sandboxes of a fake host, with the same rules on states and operation ids as a real one. */
export class FakeSandboxes {
  readonly #sandboxes = new Map<string, FakeSandbox>();
  readonly #templates = new Set<string>();
  readonly #operations = new Map<string, unknown>();
  /** Answers commands; by default it writes the command line to standard output. */
  exec: (request: ExecRequest) => FakeExecResult = ({ cmd, args }) => ({
    stdout: Buffer.from(`${(cmd === '/bin/sh' ? args.slice(1) : [cmd, ...args]).join(' ')}\n`),
  });
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
    this.#sandboxes.set(sandboxId, { info, files: new Map(), generations: [] });
  }

  /** Loses a sandbox, as a host does whose disk was replaced. */
  lose(sandboxId: string): void {
    this.#sandboxes.delete(sandboxId);
  }

  setState(sandboxId: string, state: SandboxState): void {
    this.#find(sandboxId).info.state = state;
  }

  service(): ServiceImpl<typeof HostAgent> {
    return {
      createSandbox: (request) =>
        this.#once(request.operationId, 'create', () => {
          const known = this.#sandboxes.get(request.sandboxId);
          if (known) throw new AppError('already_exists', 'the sandbox is here already');
          this.plant(request.sandboxId);
          const { info } = this.#find(request.sandboxId);
          Object.assign(info, {
            teamId: request.teamId,
            templateId: request.template?.templateId ?? '',
            vcpus: request.vcpus,
            memoryMib: request.memoryMib,
            diskMib: request.diskMib,
            timeoutSec: request.timeoutSec,
            startPath: 'cold_boot',
          });
          return { sandbox: info };
        }),
      destroySandbox: ({ sandboxId }) => {
        this.#sandboxes.delete(sandboxId);
        return {};
      },
      pauseSandbox: (request) =>
        this.#once(request.operationId, 'pause', () => {
          const { info } = this.#in(request.sandboxId, SandboxState.RUNNING);
          const generation = this.#save(request.sandboxId, 'pause');
          info.state = SandboxState.PAUSED;
          return { sandbox: info, generation };
        }),
      resumeSandbox: (request) =>
        this.#once(request.operationId, 'resume', () => {
          const sandbox = this.#find(request.sandboxId);
          if (request.generationId) {
            if (!sandbox.generations.some((generation) => generation.generationId === request.generationId)) {
              throw new AppError('not_found', 'there is no such generation');
            }
            sandbox.info.generationId = request.generationId;
          }
          Object.assign(sandbox.info, {
            state: SandboxState.RUNNING,
            startPath: 'resume',
            timeoutSec: request.timeoutSec,
          });
          return { sandbox: sandbox.info };
        }),
      forkSandbox: (request) =>
        this.#once(request.operationId, 'fork', () => {
          const source = this.#find(request.sandboxId);
          const generation = this.#save(request.sandboxId, 'fork');
          const results = request.targets.map(({ sandboxId }) => {
            this.plant(sandboxId);
            const target = this.#find(sandboxId);
            for (const [name, content] of source.files) target.files.set(name, content);
            target.info.startPath = 'restore';
            return { sandboxId, sandbox: target.info };
          });
          return { results, generation };
        }),
      createSnapshot: (request) =>
        this.#once(request.operationId, 'snapshot', () => {
          const { info } = this.#find(request.sandboxId);
          this.#templates.add(must(request.template, 'a snapshot names its template').templateId);
          return { sizeBytes: 4096n, vcpus: info.vcpus, memoryMib: info.memoryMib, diskMib: info.diskMib };
        }),
      deleteSnapshot: ({ template }) => {
        this.#templates.delete(template?.templateId ?? '');
        return { deferred: false };
      },
      listGenerations: ({ sandboxId }) => ({ generations: this.#find(sandboxId).generations }),
      updateGeneration: ({ sandboxId, generationId, name, pinned }) => {
        const generation = this.#find(sandboxId).generations.find((entry) => entry.generationId === generationId);
        if (!generation) throw new AppError('not_found', 'there is no such generation');
        if (name !== undefined) generation.name = name;
        if (pinned !== undefined) generation.pinned = pinned;
        return { generation };
      },
      listSandboxes: () => ({ sandboxes: this.list() }),
      pingSandbox: ({ sandboxId }) => ({ sandbox: this.#in(sandboxId, SandboxState.RUNNING).info }),
      setTimeout: ({ sandboxId, timeoutSec }) => {
        this.#find(sandboxId).info.timeoutSec = timeoutSec;
        return {};
      },
      pauseAll: () => {
        const running = this.list().filter((info) => info.state === SandboxState.RUNNING);
        for (const info of running) info.state = SandboxState.PAUSED;
        return { pausedSandboxIds: running.map((info) => info.sandboxId), failures: {} };
      },
      exec: (request) => {
        this.#in(request.sandboxId, SandboxState.RUNNING);
        this.work.push('exec');
        const { stdout = new Uint8Array(), stderr = new Uint8Array(), exitCode = 0 } = this.exec(request);
        return { stdout, stderr, exitCode, truncated: false, durationMs: 1 };
      },
      execStream: (request) => this.#stream(request),
      writeFile: async (messages) => {
        let target: { sandboxId: string; path: string } | undefined;
        const chunks: Uint8Array[] = [];
        for await (const { content } of messages) {
          if (content.case === 'meta') target = content.value;
          else if (content.case === 'chunk') chunks.push(content.value);
        }
        const { sandboxId, path } = must(target, 'the first message is meta');
        const bytes = Buffer.concat(chunks);
        this.#in(sandboxId, SandboxState.RUNNING).files.set(path, bytes);
        return { size: BigInt(bytes.length) };
      },
      readFile: (request) => this.#read(request),
      listDir: ({ sandboxId, path }) => ({
        entries: [...this.#in(sandboxId, SandboxState.RUNNING).files]
          .filter(([name]) => name.startsWith(`${path.replace(/\/$/, '')}/`))
          .map(([name, content]) => ({
            name: name.split('/').at(-1) ?? '',
            path: name,
            type: 'file',
            size: BigInt(content.length),
          })),
      }),
      makeDir: ({ sandboxId, path }) => {
        this.#in(sandboxId, SandboxState.RUNNING);
        this.work.push('mkdir');
        return { entry: { name: path.split('/').at(-1) ?? '', path, type: 'directory' } };
      },
      removePath: ({ sandboxId, path }) => {
        if (!this.#in(sandboxId, SandboxState.RUNNING).files.delete(path))
          throw new AppError('not_found', `there is no ${path}`);
        return {};
      },
    };
  }

  async *#stream(request: ExecRequest) {
    this.#in(request.sandboxId, SandboxState.RUNNING);
    yield { event: { case: 'start' as const, value: { pid: 42 } } };
    const { stdout, stderr, exitCode = 0 } = this.exec(request);
    if (stdout) yield { event: { case: 'stdout' as const, value: stdout } };
    if (stderr) yield { event: { case: 'stderr' as const, value: stderr } };
    yield { event: { case: 'end' as const, value: { exitCode, error: '' } } };
  }

  async *#read({ sandboxId, path }: { sandboxId: string; path: string }) {
    const content = this.#in(sandboxId, SandboxState.RUNNING).files.get(path);
    if (!content) throw new AppError('not_found', `there is no ${path}`);
    const half = Math.ceil(content.length / 2);
    yield { chunk: content.subarray(0, half) };
    yield { chunk: content.subarray(half) };
  }

  #find(sandboxId: string): FakeSandbox {
    const sandbox = this.#sandboxes.get(sandboxId);
    if (!sandbox) throw new AppError('not_found', 'the host has no such sandbox');
    return sandbox;
  }

  #in(sandboxId: string, state: SandboxState): FakeSandbox {
    const sandbox = this.#find(sandboxId);
    if (sandbox.info.state !== state) {
      throw new AppError('invalid_state', 'the sandbox is in another state', {
        details: { state: sandbox.info.state },
      });
    }
    return sandbox;
  }

  #once<T>(operationId: string, name: string, work: () => T): T {
    if (!this.#operations.has(operationId)) {
      this.#operations.set(operationId, work());
      this.work.push(name);
    }
    return this.#operations.get(operationId) as T;
  }

  #save(sandboxId: string, cause: string): GenerationInfo {
    const { info, generations } = this.#find(sandboxId);
    const generation = create(GenerationInfoSchema, {
      generationId: uuidv7(),
      parentId: info.generationId,
      cause,
      hasMemory: true,
      memoryBytes: 4096n,
      diskBytes: 512n,
      createdAtUnixMs: BigInt(Date.now()),
    });
    generations.push(generation);
    info.generationId = generation.generationId;
    return generation;
  }
}
