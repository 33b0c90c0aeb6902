import { execBuffered } from './exec.ts';
import type { GuestClient } from './guest-client.ts';

/**
 * Has a guest run a command that does nothing. The first command is the slowest by far, because the agent's code for it is
 * loaded and compiled: whatever is copied from a guest after this has that behind it.
 */
export async function warmUp(guest: GuestClient): Promise<void> {
  await execBuffered(guest, { cmd: '/bin/true', args: [], envs: {}, user: 'user', timeoutSec: 60 });
}
