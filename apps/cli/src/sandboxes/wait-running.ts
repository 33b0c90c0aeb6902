import { type AviaryClient, AviaryError, type CreateSandbox, type Sandbox } from '@aviary/sdk';

/** Makes a sandbox and waits until it runs. Throws AviaryError; a sandbox that did not come to run is destroyed. */
export async function createRunning(
  client: AviaryClient,
  request: CreateSandbox,
  { waitSec, signal }: { waitSec: number; signal: AbortSignal },
): Promise<Sandbox> {
  const idempotencyKey = crypto.randomUUID();
  try {
    const sandbox = await client.sandboxes.create(request, { waitSec, signal, idempotencyKey });
    if (sandbox.status === 'running') return sandbox;
    await destroy(client, sandbox.id);
    const reason = sandbox.status_reason ? `: ${sandbox.status_reason}` : '';
    throw new AviaryError(
      'timeout',
      `sandbox ${sandbox.id} is ${sandbox.status}, not running, after ${waitSec} s${reason}`,
    );
  } catch (error) {
    if (signal.aborted) await destroyAccepted(client, request, idempotencyKey);
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

// An interrupt may fall between the server's acceptance and its answer. The same key answers which sandbox that was,
// or makes one now that is destroyed at once: either way none is left behind.
async function destroyAccepted(client: AviaryClient, request: CreateSandbox, idempotencyKey: string): Promise<void> {
  const sandbox = await client.sandboxes.create(request, { idempotencyKey, timeoutMs: cleanUpTimeoutMs });
  await destroy(client, sandbox.id);
}
