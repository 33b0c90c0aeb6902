import { errorText, type SandboxId } from '@aviary/core';
import { type Logger, Semaphore } from '@aviary/service-kit';
import { launchOf } from '../registry/sandbox-record.ts';
import type { Sandbox, SandboxRegistry } from '../registry/sandbox-registry.ts';
import { CpuWatch } from './cpu-watch.ts';

/** Pauses under way at once: each writes to the disk. */
const pauseConcurrency = 4;
/** Pause again after a failure not before this. */
const retryAfterMs = 30_000;

export interface ReaperDeps {
  registry: Pick<SandboxRegistry, 'list' | 'isLocked' | 'touch' | 'clock'>;
  logger: Pick<Logger, 'warn'>;
  /** CPU time that a sandbox's microVM has used since it started; undefined when nobody can tell. */
  cpuUsedMs: (sandbox: Sandbox) => Promise<number | undefined>;
  pause: (sandboxId: SandboxId) => Promise<unknown>;
}

/** Pauses sandboxes that nobody used, and that did not work by themselves, for their `timeoutSec`. */
export class Reaper implements AsyncDisposable {
  readonly #deps: ReaperDeps;
  readonly #semaphore = new Semaphore(pauseConcurrency);
  readonly #cpu = new CpuWatch();
  readonly #pausing = new Set<string>();
  readonly #retryAt = new Map<string, number>();
  readonly #rounds = new Set<Promise<void>>();
  #isStopped = false;

  constructor(deps: ReaperDeps) {
    this.#deps = deps;
  }

  /** Starts a round that nobody waits for: one slow pause must not keep the next ones waiting. */
  startRound(): void {
    const round = this.runOnce().finally(() => this.#rounds.delete(round));
    this.#rounds.add(round);
  }

  /** Lets pauses under way end; those that have not begun are left to the next agent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#rounds);
  }

  /** Looks at every sandbox once and starts the pauses that are due. Resolves when those have ended. */
  async runOnce(): Promise<void> {
    const watched = this.#deps.registry
      .list()
      .filter(({ record }) => record.timeoutSec > 0 && record.state === 'running' && !record.isInternal);
    this.#cpu.keepOnly(new Set(watched.map(({ record }) => record.sandboxId)));
    await Promise.all(
      watched.map(async (sandbox) => {
        const isQuiet = await this.#isQuiet(sandbox).catch((error: unknown) => {
          // Nobody waits for a round: it must not fail, nor must one sandbox keep the others waiting.
          const { sandboxId } = sandbox.record;
          this.#deps.logger.warn({ sandboxId, error: errorText(error) }, 'cannot tell whether a microVM works');
          return false;
        });
        if (isQuiet && this.#isDue(sandbox)) await this.#semaphore.run(() => this.#pauseIfDue(sandbox));
      }),
    );
  }

  /** A microVM that works keeps itself awake; one that was not watched long enough is not judged yet. */
  async #isQuiet(sandbox: Sandbox): Promise<boolean> {
    const { registry, cpuUsedMs } = this.#deps;
    const { record } = sandbox;
    const usedMs = await cpuUsedMs(sandbox);
    if (usedMs === undefined) return true;
    const { sandboxId, vcpus, timeoutSec, startedAtMs } = record;
    const run = `${startedAtMs}/${launchOf(record).run?.vmm.pid}`;
    const verdict = this.#cpu.judge({ sandboxId, run, nowMs: registry.clock.now(), usedMs, vcpus, timeoutSec });
    if (verdict === 'busy') registry.touch(sandbox, 'cpu');
    return verdict === 'quiet';
  }

  #isDue({ record, running, openStreams }: Sandbox): boolean {
    const { registry } = this.#deps;
    const now = registry.clock.now();
    const isIdle = record.timeoutSec > 0 && now - record.lastActiveAtMs >= record.timeoutSec * 1_000;
    return (
      isIdle &&
      openStreams === 0 &&
      record.state === 'running' &&
      running !== undefined &&
      !this.#pausing.has(record.sandboxId) &&
      !registry.isLocked(record.sandboxId) &&
      now >= (this.#retryAt.get(record.sandboxId) ?? 0)
    );
  }

  async #pauseIfDue(sandbox: Sandbox): Promise<void> {
    const { registry, logger, pause } = this.#deps;
    const { sandboxId } = sandbox.record;
    // Somebody may have used it while it waited for others' pauses.
    if (this.#isStopped || !this.#isDue(sandbox)) return;
    this.#pausing.add(sandboxId);
    try {
      await pause(sandboxId);
      this.#retryAt.delete(sandboxId);
    } catch (error) {
      this.#retryAt.set(sandboxId, registry.clock.now() + retryAfterMs);
      logger.warn({ sandboxId, state: sandbox.record.state, error: errorText(error) }, 'auto-pause failed');
    } finally {
      this.#pausing.delete(sandboxId);
    }
  }
}
