import { execBuffered } from './exec.ts';
import type { GuestClient, GuestInit } from './guest-client.ts';

/** Longest that one of these steps may take. Software CPUs on a busy machine are slow. */
const stepTimeoutMs = 60_000;

/**
 * Has a guest run a command that does nothing. The first command is the slowest by far, because the agent's code for it is
 * loaded and compiled: whatever is copied from a guest after this has that behind it.
 */
export async function warmUp(guest: GuestClient): Promise<void> {
  const waits = { startMs: stepTimeoutMs, silenceMs: stepTimeoutMs };
  await execBuffered(guest, { cmd: '/bin/true', args: [], envs: {}, user: 'user', timeoutSec: 60, waits });
}

/**
 * Has a booted guest do what a restored one must do before it serves: be frozen, be given an identity, go on, run a command. In every copy of
 * it that code is loaded and compiled then.
 */
export async function rehearseRestore(guest: GuestClient, identity: GuestInit): Promise<void> {
  await warmUp(guest);
  await guest.freeze({ timeoutMs: stepTimeoutMs });
  await guest.init(identity, { timeoutMs: stepTimeoutMs, isFrozen: true });
  await warmUp(guest);
}
