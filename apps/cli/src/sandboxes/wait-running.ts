import { AppError } from '@aviary/core';
import { type AviaryClient, AviaryError, type CreateSandbox, type Sandbox } from '@aviary/sdk';
import { waitFor } from '@aviary/service-kit';

/** What is shown meanwhile, and why it may take long. */
export const creating = {
  text: 'creating a sandbox …',
  hint: 'the first of a template and size boots, later ones are restored',
};

/**
 * Makes a sandbox and waits until it runs. Throws AviaryError, or the signal's reason; no sandbox is left behind then.
 * The order itself is not interrupted: its answer comes at once, and says what to clean up.
 */
export async function createRunning(
  client: AviaryClient,
  request: CreateSandbox,
  options: { waitSec: number; signal: AbortSignal },
): Promise<Sandbox> {
  const sandbox = await createSettled(client, request, options);
  if (sandbox.status === 'running') return sandbox;
  await destroy(client, sandbox.id);
  const reason = sandbox.status_reason ?? 'no reason was given';
  throw new AviaryError('internal', `sandbox ${sandbox.id} did not start, it is ${sandbox.status}: ${reason}`);
}

/**
 * Makes a sandbox and waits until it runs, or cannot, or `waitSec` have passed: it is answered as it is then. When `signal` aborts it is
 * destroyed: nobody has learnt its id.
 */
export async function createSettled(
  client: AviaryClient,
  request: CreateSandbox,
  { waitSec, signal }: { waitSec: number; signal: AbortSignal },
): Promise<Sandbox> {
  signal.throwIfAborted();
  let sandbox = await client.sandboxes.create(request);
  try {
    const wait = { what: `start of sandbox ${sandbox.id}`, timeoutMs: waitSec * 1_000, intervalMs: 50, signal };
    await waitFor(wait, async () => {
      sandbox = await client.sandboxes.get(sandbox.id, { signal });
      return sandbox.status !== 'pending' && sandbox.status !== 'starting';
    }).catch((error: unknown) => {
      if (!isTimeout(error)) throw error;
    });
    return sandbox;
  } catch (error) {
    await destroy(client, sandbox.id);
    throw error;
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof AppError && error.code === 'deadline_exceeded';
}

/** Time given to clean up after a failure or an interrupt. */
const cleanUpTimeoutMs = 15_000;

/** Destroys a sandbox, waiting only for the order to be accepted; one that is gone already is fine. Throws AviaryError. */
export async function destroy(client: AviaryClient, sandboxId: string): Promise<void> {
  try {
    await client.sandboxes.delete(sandboxId, { timeoutMs: cleanUpTimeoutMs });
  } catch (error) {
    if (!(error instanceof AviaryError && error.code === 'not_found')) throw error;
  }
}

/** Orders at a time, so that a long list neither floods the platform nor takes a round trip each. */
const destroyedAtOnce = 8;

/** Destroys sandboxes, several at a time, and resolves with what became of each. Throws the first failure when all were tried. */
export async function destroyAll(
  client: Pick<AviaryClient, 'sandboxes'>,
  ids: readonly string[],
  options: { waitSec: number; signal: AbortSignal },
): Promise<Sandbox[]> {
  const gone: Sandbox[] = [];
  const failures: unknown[] = [];
  for (let at = 0; at < ids.length; at += destroyedAtOnce) {
    options.signal.throwIfAborted();
    const batch = ids.slice(at, at + destroyedAtOnce).map((id) => client.sandboxes.delete(id, options));
    for (const outcome of await Promise.allSettled(batch)) {
      if (outcome.status === 'fulfilled') gone.push(outcome.value);
      else failures.push(outcome.reason);
    }
  }
  if (failures.length > 0) throw failures[0];
  return gone;
}
