import { randomBytes } from 'node:crypto';
import os from 'node:os';
import { type AviaryClient, AviaryError, type ExecResult, type Sandbox } from '@aviary/sdk';
import { waitFor } from '@aviary/service-kit';
import type { StepRunner } from './step-runner.ts';

const settleSec = 300;
const counterFile = '/tmp/aviary-counter';
const counterProgram = `i=0; while :; do i=$((i+1)); echo $i > ${counterFile}.new; mv ${counterFile}.new ${counterFile}; sleep 0.05; done`;
/** Adds the primes below 20 000 up: real work, whose answer is known. */
const primeProgram = 'print(sum(n for n in range(2, 20000) if all(n % d for d in range(2, int(n ** 0.5) + 1))))';
const primeSum = '21171191';

export interface Tour {
  client: AviaryClient;
  steps: StepRunner;
  signal: AbortSignal;
}

/** Makes a sandbox, waiting until it runs. */
export async function createSandbox({ client, steps, signal }: Tour): Promise<Sandbox> {
  return await steps.run(
    'create a sandbox',
    async () => requireStatus(await client.sandboxes.create({}, { waitSec: settleSec, signal }), 'running'),
    ({ id, start_path }) => `${id}, by ${(start_path ?? 'unknown').replaceAll('_', ' ')}`,
  );
}

/** Runs programs in the sandbox and moves a file in and out. */
export async function useSandbox({ client, steps, signal }: Tour, { id }: Sandbox): Promise<void> {
  const exec = async (cmd: string) =>
    requireSuccess(await client.sandboxes.exec(id, { cmd, timeout_sec: 120 }, { signal }));
  await steps.run(
    'look at its kernel',
    async () => (await exec('uname -r')).stdout.trim(),
    (kernel) => `guest ${kernel}, host ${os.release()}`,
  );
  await steps.run(
    'run Python in it',
    async () => {
      const version = (await exec('python3 --version')).stdout.trim();
      const sum = requireSuccess(
        await client.sandboxes.exec(id, { cmd: 'python3', args: ['-c', primeProgram], timeout_sec: 120 }, { signal }),
      ).stdout.trim();
      if (sum !== primeSum) throw new Error(`it computed ${sum}, the right answer is ${primeSum}`);
      return `${version}, sum of the primes below 20 000 is ${sum}`;
    },
    (text) => text,
  );
  await steps.run(
    'write a file and read it back',
    async () => {
      const data = randomBytes(256 * 1024);
      await client.files.write(id, { path: '/tmp/aviary-file', data }, { signal });
      const back = await client.files.read(id, '/tmp/aviary-file', { signal });
      if (Buffer.compare(data, back) !== 0) throw new Error('what came back is not what was written');
      return data.length;
    },
    (bytes) => `${bytes} bytes, the same`,
  );
}

/**
 * Pauses, resumes and forks the sandbox while a program counts in it. Resolves with the forks, or undefined when this
 * installation does not offer these actions.
 */
export async function travelInTime({ client, steps, signal }: Tour, { id }: Sandbox): Promise<Sandbox[] | undefined> {
  const start = `setsid sh -c '${counterProgram}' >/dev/null 2>&1 </dev/null &`;
  requireSuccess(await client.sandboxes.exec(id, start, { signal }));
  const before = await growingCount(client, { id, signal, above: 0 });
  try {
    await steps.run(
      'pause it with its memory',
      async () => requireStatus(await client.sandboxes.pause(id, { waitSec: settleSec, signal }), 'paused'),
      () => `the program in it had counted to ${before}`,
    );
  } catch (error) {
    if (isNotOffered(error instanceof Error ? error.cause : undefined)) return undefined;
    throw error;
  }
  const afterResume = await steps.run(
    'resume it',
    async () => {
      requireStatus(await client.sandboxes.resume(id, { waitSec: settleSec, signal }), 'running');
      return await growingCount(client, { id, signal, above: before });
    },
    (count) => `the same program goes on: ${count}`,
  );
  return await steps.run(
    'fork it twice',
    () => forkTwice(client, { id, signal, above: afterResume }),
    () => 'all three count on',
  );
}

async function forkTwice(
  client: AviaryClient,
  { id, signal, above }: { id: string; signal: AbortSignal; above: number },
): Promise<Sandbox[]> {
  const forks = await client.sandboxes.fork(id, { count: 2 }, { waitSec: settleSec, signal });
  await waitFor({ what: 'forks running', timeoutMs: settleSec * 1_000, intervalMs: 200, signal }, async () => {
    const now = await Promise.all(forks.map((fork) => client.sandboxes.get(fork.id, { signal })));
    const broken = now.find(({ status }) => status === 'error');
    if (broken) throw new Error(`fork ${broken.id} failed: ${broken.status_reason ?? 'no reason given'}`);
    return now.every(({ status }) => status === 'running');
  });
  for (const { id: one } of [{ id }, ...forks]) await growingCount(client, { id: one, signal, above: above - 1 });
  return forks;
}

/** Waits until the counter is beyond `above` and moves. */
async function growingCount(
  client: AviaryClient,
  { id, signal, above }: { id: string; signal: AbortSignal; above: number },
): Promise<number> {
  const read = async () => {
    const { stdout } = await client.sandboxes.exec(id, `cat ${counterFile} 2>/dev/null || true`, { signal });
    return Number(stdout.trim() || 0);
  };
  const wait = { timeoutMs: 60_000, intervalMs: 100, signal };
  const first = await waitFor({ ...wait, what: `the counter passing ${above}` }, async () => {
    const count = await read();
    return count > above && count;
  });
  return await waitFor({ ...wait, what: 'the counter moving' }, async () => {
    const count = await read();
    return count > first && count;
  });
}

// The sandbox is known to exist: what is not found, then, is the route.
function isNotOffered(error: unknown): boolean {
  return error instanceof AviaryError && [404, 405, 501].includes(error.status);
}

function requireStatus(sandbox: Sandbox, status: Sandbox['status']): Sandbox {
  if (sandbox.status === status) return sandbox;
  throw new Error(`${sandbox.id} is ${sandbox.status}, not ${status}: ${sandbox.status_reason ?? 'no reason given'}`);
}

function requireSuccess(result: ExecResult): ExecResult {
  if (result.exit_code === 0) return result;
  throw new Error(`${result.cmd} ended with ${result.exit_code}: ${result.stderr.trim() || result.stdout.trim()}`);
}
