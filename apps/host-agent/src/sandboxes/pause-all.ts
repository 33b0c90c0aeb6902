import { Semaphore } from '@aviary/service-kit';
import { failureReason } from './failure-reason.ts';
import { type PauseDeps, pauseSandbox } from './pause-sandbox.ts';

/** Pauses under way at once: each writes to the disk. */
const pauseConcurrency = 4;

/** Pauses everything that runs, for a host about to go. Failures are told per sandbox; those run on, unless they were saved. */
export async function pauseAll(
  deps: PauseDeps,
  operationId: string,
): Promise<{ paused: string[]; failures: Record<string, string> }> {
  const semaphore = new Semaphore(pauseConcurrency);
  const paused: string[] = [];
  const failures: Record<string, string> = {};
  const running = deps.registry.list().filter(({ record }) => record.state === 'running' && !record.isInternal);
  await Promise.all(
    running.map(({ record: { sandboxId } }) =>
      semaphore.run(async () => {
        try {
          await pauseSandbox(deps, {
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
