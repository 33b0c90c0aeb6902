import { AppError, asId, execLimits, type SandboxId } from '@aviary/core';
import type { ExecRequest, HostAgent } from '@aviary/proto/hostagent';
import type { ServiceImpl } from '@connectrpc/connect';
import { type ExecOptions, execBuffered, execStream, sendExecInput, signalExec } from '../guest/exec.ts';
import type { ActivityKind } from '../registry/sandbox-record.ts';
import { type RunningParts, type Sandbox, type SandboxRegistry, waitsForSpace } from '../registry/sandbox-registry.ts';

type Routes = Pick<ServiceImpl<typeof HostAgent>, 'exec' | 'execStream' | 'execInput' | 'execSignal'>;

/** Work inside running guests. */
export function guestRoutes({ registry }: { registry: SandboxRegistry }): Routes {
  const idOf = (text: string): SandboxId => asId('sandbox', text);

  /** Counts as activity, and keeps the sandbox awake while it lasts. */
  async function inGuest<T>(
    sandboxId: string,
    kind: ActivityKind,
    work: (running: RunningParts, sandbox: Sandbox) => Promise<T>,
  ): Promise<T> {
    const sandbox = registry.getAnswering(idOf(sandboxId));
    // Kept: a pause or an end takes it from the sandbox.
    const { running } = sandbox;
    registry.touch(sandbox, kind);
    sandbox.openStreams++;
    try {
      return await work(running, sandbox);
    } catch (error) {
      throw running.vm.isOutOfSpace ? waitsForSpace(error) : error;
    } finally {
      sandbox.openStreams--;
      registry.touch(sandbox, kind);
    }
  }

  /** The same for work that yields as it goes. */
  async function* streamFromGuest<T>(
    sandboxId: string,
    kind: ActivityKind,
    open: (sandbox: Sandbox & { running: RunningParts }) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    const sandbox = registry.getAnswering(idOf(sandboxId));
    const { running } = sandbox;
    sandbox.openStreams++;
    try {
      for await (const item of open(sandbox)) {
        registry.touch(sandbox, kind);
        yield item;
      }
    } catch (error) {
      throw running.vm.isOutOfSpace ? waitsForSpace(error) : error;
    } finally {
      sandbox.openStreams--;
      registry.touch(sandbox, kind);
    }
  }

  return {
    exec(request, { signal }) {
      return inGuest(request.sandboxId, 'exec', async ({ guest }, sandbox) => {
        const { stdin } = request;
        return execBuffered(guest, { ...execOptions(request, sandbox), stdin }, signal);
      });
    },
    async *execStream(request, { signal }) {
      const events = streamFromGuest(request.sandboxId, 'stream', (sandbox) =>
        execStream(sandbox.running.guest, { ...execOptions(request, sandbox), hasStdin: request.openStdin }, signal),
      );
      for await (const event of events) {
        if (event.kind === 'start') yield { event: { case: 'start' as const, value: { pid: event.pid } } };
        else if (event.kind === 'end') yield { event: { case: 'end' as const, value: event.end } };
        else yield { event: { case: event.kind, value: event.data } };
      }
    },
    execInput({ sandboxId, pid, data, eof }, { signal }) {
      return inGuest(sandboxId, 'stream', async ({ guest }) => ({
        open: await sendExecInput(guest, { pid, data, isLast: eof }, signal),
      }));
    },
    execSignal({ sandboxId, pid, signal: wanted }, { signal }) {
      return inGuest(sandboxId, 'stream', async ({ guest }) => ({
        sent: await signalExec(guest, { pid, wanted }, signal),
      }));
    },
  };
}

function execOptions(request: ExecRequest, sandbox: Sandbox): ExecOptions {
  if (request.cmd === '') throw new AppError('invalid_request', 'cmd must not be empty', { details: { field: 'cmd' } });
  if (request.stdin.byteLength > execLimits.maxStdinBytes) {
    throw new AppError('payload_too_large', `stdin may have ${execLimits.maxStdinBytes} bytes; write a file for more`, {
      details: { field: 'stdin' },
    });
  }
  return {
    cmd: request.cmd,
    args: request.args,
    envs: request.envs,
    ...(request.cwd === undefined ? {} : { cwd: request.cwd }),
    user: request.user || sandbox.record.defaultUser,
    timeoutSec: request.timeoutSec,
    isDetached: request.detach,
  };
}
