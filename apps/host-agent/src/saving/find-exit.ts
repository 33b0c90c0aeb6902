import type { Clock } from '@aviary/service-kit';
import type { MicroVm, VmExit } from '../vmm/vmm.ts';

/** How long a VMM that answers no more may take to be seen as gone. */
const exitNoticeMs = 5_000;

/** How the microVM ended, when it did: one that still answers has not. */
export async function findExit(clock: Clock, vm: Pick<MicroVm, 'exited' | 'resume'>): Promise<VmExit | undefined> {
  const doesAnswer = await vm.resume().then(
    () => true,
    () => false,
  );
  if (doesAnswer) return undefined;
  const expired = new AbortController();
  try {
    return await Promise.race([
      vm.exited,
      clock.sleep(exitNoticeMs, expired.signal).then(
        () => undefined,
        () => undefined,
      ),
    ]);
  } finally {
    expired.abort();
  }
}
