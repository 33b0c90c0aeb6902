import { errorText, newId } from '@aviary/core';
import { Semaphore } from '@aviary/service-kit';
import { failureReason } from './failure-reason.ts';
import { pauseSandbox } from './pause-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Sandbox } from './sandbox-registry.ts';

/** Pauses under way at once: each writes to the disk. */
const pauseConcurrency = 4;
/** A guest that uses more of its CPUs than this, in percent, is working, whoever asked it to. */
const busyCpuPercent = 10;
/** Pause again after a failure not before this. */
const retryAfterMs = 30_000;

/** Pauses sandboxes that nobody used for their `timeoutSec`. */
export class Reaper {
  readonly #semaphore = new Semaphore(pauseConcurrency);
  readonly #pausing = new Set<string>();
  readonly #retryAt = new Map<string, number>();

  /** Looks at every sandbox once and starts the pauses that are due. Resolves when those have ended. */
  async runOnce(context: SandboxContext): Promise<void> {
    const { registry } = context;
    const due = registry.list().filter((sandbox) => this.#isDue(context, sandbox));
    await Promise.all(due.map((sandbox) => this.#semaphore.run(() => this.#pauseIfIdle(context, sandbox))));
  }

  #isDue({ registry }: SandboxContext, { record, running, openStreams }: Sandbox): boolean {
    const now = registry.clock.now();
    const isIdle = record.timeoutSec > 0 && now - record.lastActiveAtMs >= record.timeoutSec * 1_000;
    const isFree =
      !this.#pausing.has(record.sandboxId) &&
      !registry.isLocked(record.sandboxId) &&
      now >= (this.#retryAt.get(record.sandboxId) ?? 0);
    return (
      isIdle && isFree && openStreams === 0 && record.state === 'running' && running !== undefined && !record.isInternal
    );
  }

  async #pauseIfIdle(context: SandboxContext, sandbox: Sandbox): Promise<void> {
    const { registry, logger } = context;
    const { sandboxId } = sandbox.record;
    this.#pausing.add(sandboxId);
    try {
      const metrics = await sandbox.running?.guest.metrics().catch(() => undefined);
      if (metrics && metrics.cpu_used_pct > busyCpuPercent) {
        registry.touch(sandbox, 'cpu');
        return;
      }
      if (!this.#isStillIdle(context, sandbox)) return;
      await pauseSandbox(context, { sandboxId, operationId: newId('operation'), cause: 'auto_pause' });
      this.#retryAt.delete(sandboxId);
    } catch (error) {
      this.#retryAt.set(sandboxId, registry.clock.now() + retryAfterMs);
      logger.warn({ sandboxId, state: sandbox.record.state, error: errorText(error) }, 'auto-pause failed');
    } finally {
      this.#pausing.delete(sandboxId);
    }
  }

  /** Somebody may have used it, or put its end off, while the guest was asked. */
  #isStillIdle({ registry }: SandboxContext, { record, openStreams }: Sandbox): boolean {
    return (
      openStreams === 0 &&
      record.timeoutSec > 0 &&
      registry.clock.now() - record.lastActiveAtMs >= record.timeoutSec * 1_000
    );
  }
}

/** Pauses everything that runs, for a host about to go. Failures are told per sandbox; those run on, unless they were saved. */
export async function pauseAll(
  context: SandboxContext,
  operationId: string,
): Promise<{ paused: string[]; failures: Record<string, string> }> {
  const semaphore = new Semaphore(pauseConcurrency);
  const paused: string[] = [];
  const failures: Record<string, string> = {};
  const running = context.registry.list().filter(({ record }) => record.state === 'running' && !record.isInternal);
  await Promise.all(
    running.map(({ record: { sandboxId } }) =>
      semaphore.run(async () => {
        try {
          await pauseSandbox(context, {
            sandboxId,
            operationId: `${operationId}:${sandboxId}`,
            cause: 'host_shutdown',
          });
          paused.push(sandboxId);
        } catch (error) {
          failures[sandboxId] = failureReason(error);
        }
      }),
    ),
  );
  return { paused, failures };
}
