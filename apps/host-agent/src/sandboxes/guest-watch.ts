import { errorText } from '@aviary/core';
import { type Logger, Semaphore } from '@aviary/service-kit';
import {
  type GuestTrouble,
  isRunningSandbox,
  type RunningSandbox,
  type Sandbox,
  type SandboxRegistry,
  subjectOf,
  visibleReason,
} from '../registry/sandbox-registry.ts';

/** Looks in a row that a guest may not answer before that is told: one on a busy machine is slow, not gone. */
const silentLooks = 3;
const healthTimeoutMs = 10_000;
/** Guests asked at once. */
const healthConcurrency = 8;
/** Free space with which guests that wait for some go on. Less than this is gone again with the first write. */
const worthwhileBytes = 64 * 2 ** 20;

export interface GuestWatchDeps {
  registry: Pick<SandboxRegistry, 'list' | 'isLocked' | 'events'>;
  logger: Logger;
  /** What is free on the disk that sandboxes write to, bytes. */
  freeBytes(): Promise<number>;
}

/**
 * Says in a running sandbox's status reason what keeps it from working, and that this is over. It ends nothing: a guest that hangs
 * may come back, and what to do about one that does not is its user's to say. Guests that wait for space go on when there is some.
 */
export class GuestWatch {
  readonly #deps: GuestWatchDeps;
  readonly #silent = new WeakMap<RunningSandbox['running'], number>();

  constructor(deps: GuestWatchDeps) {
    this.#deps = deps;
  }

  /** Looks at guests whose writes wait for space, and lets them go on when there is some. */
  async lookForSpace(): Promise<void> {
    for (const sandbox of this.#watched()) {
      const { running } = sandbox;
      if (!running.vm.isOutOfSpace) {
        if (running.trouble === 'host_disk_full') await this.#tell(sandbox, undefined);
        continue;
      }
      await this.#tell(sandbox, 'host_disk_full');
      if ((await this.#deps.freeBytes()) < worthwhileBytes) continue;
      // A forced pause may have stopped the guest meanwhile, and is saving what it must not change.
      if (this.#isBusy(sandbox, running)) continue;
      await running.vm.resume().catch((error: unknown) => {
        this.#deps.logger.warn(
          { sandboxId: sandbox.record.sandboxId, error: errorText(error) },
          'a guest stays stopped',
        );
      });
    }
  }

  /** Asks every running guest's agent for a sign of life. */
  async lookForLife(): Promise<void> {
    const semaphore = new Semaphore(healthConcurrency);
    await Promise.all(this.#watched().map((sandbox) => semaphore.run(() => this.#lookAt(sandbox))));
  }

  async #lookAt(sandbox: RunningSandbox): Promise<void> {
    const { running } = sandbox;
    if (running.vm.isOutOfSpace) return;
    const isAlive = await running.guest.isHealthy({ timeoutMs: healthTimeoutMs });
    // A pause that began meanwhile is why it did not answer.
    if (this.#isBusy(sandbox, running)) return;
    const silent = isAlive ? 0 : (this.#silent.get(running) ?? 0) + 1;
    this.#silent.set(running, silent);
    if (isAlive && running.trouble === 'guest_silent') await this.#tell(sandbox, undefined);
    if (silent >= silentLooks) await this.#tell(sandbox, 'guest_silent');
  }

  #watched(): RunningSandbox[] {
    const { registry } = this.#deps;
    return registry
      .list()
      .filter(
        (sandbox): sandbox is RunningSandbox =>
          isRunningSandbox(sandbox) && !sandbox.record.isInternal && !registry.isLocked(sandbox.record.sandboxId),
      );
  }

  /** Whether a command is under way, or has ended the run that was looked at. */
  #isBusy(sandbox: Sandbox, running: RunningSandbox['running']): boolean {
    const { record } = sandbox;
    return sandbox.running !== running || record.state !== 'running' || this.#deps.registry.isLocked(record.sandboxId);
  }

  async #tell(sandbox: RunningSandbox, trouble: GuestTrouble | undefined): Promise<void> {
    const { running, record } = sandbox;
    if (running.trouble === trouble) return;
    if (trouble === undefined) delete running.trouble;
    else running.trouble = trouble;
    const { sandboxId } = record;
    const reason = visibleReason(sandbox);
    this.#deps.logger[trouble ? 'warn' : 'info'](
      { sandboxId, trouble },
      trouble ? 'a guest is in trouble' : 'a guest is well again',
    );
    // The host may have no space for the event either: then the control plane sees it when it looks next.
    await this.#deps.registry.events
      .push('sandbox.reason_changed', subjectOf(sandbox), reason === '' ? {} : { reason })
      .catch((error: unknown) =>
        this.#deps.logger.warn({ sandboxId, error: errorText(error) }, 'control plane not told'),
      );
  }
}
