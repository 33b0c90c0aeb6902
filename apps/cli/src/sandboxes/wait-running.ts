import { type AviaryClient, AviaryError, type CreateSandbox, type Sandbox } from '@aviary/sdk';
import { waitFor } from '@aviary/service-kit';

/**
 * Makes a sandbox and waits until it runs. Throws AviaryError, or the signal's reason; no sandbox is left behind then.
 * The order itself is not interrupted: its answer comes at once, and says what to clean up.
 */
export async function createRunning(
  client: AviaryClient,
  request: CreateSandbox,
  { waitSec, signal }: { waitSec: number; signal: AbortSignal },
): Promise<Sandbox> {
  signal.throwIfAborted();
  const { id } = await client.sandboxes.create(request);
  try {
    const wait = { what: `start of sandbox ${id}`, timeoutMs: waitSec * 1_000, intervalMs: 50, signal };
    return await waitFor(wait, async () => {
      const sandbox = await client.sandboxes.get(id, { signal });
      if (sandbox.status === 'running') return sandbox;
      if (sandbox.status === 'pending' || sandbox.status === 'starting') return undefined;
      const reason = sandbox.status_reason ?? 'no reason was given';
      throw new AviaryError('internal', `sandbox ${id} did not start, it is ${sandbox.status}: ${reason}`);
    });
  } catch (error) {
    await destroy(client, id);
    throw error;
  }
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
