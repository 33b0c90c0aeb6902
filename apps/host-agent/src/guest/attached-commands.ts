import { AppError } from '@aviary/core';

/** What ends commands that are still followed: the end of their sandbox's run, by whom it came. */
export type RunEnd = 'paused' | 'deleted' | 'lost';

/** A command that somebody follows. Disposing it lets go of it. */
export interface AttachedCommand extends Disposable {
  /** Aborts when the command is to be followed no longer. */
  readonly signal: AbortSignal;
  /** Why it was ended; undefined while it was not. */
  readonly reason: AppError | undefined;
  /** Ends the following, and with it the command unless it is detached. */
  end(reason: AppError): void;
}

/** The commands of one guest that somebody follows, so that the end of the sandbox's run ends them, and says so. */
export class AttachedCommands {
  readonly #commands = new Map<AttachedCommand, { isDetached: boolean }>();

  /** `signal` is the caller's: it aborts when the caller has gone. */
  add({ isDetached, signal }: { isDetached: boolean; signal?: AbortSignal }): AttachedCommand {
    const controller = new AbortController();
    let reason: AppError | undefined;
    const end = (why: AppError) => {
      reason ??= why;
      controller.abort(why);
    };
    const onLeave = () => {
      const outcome = isDetached ? 'goes on' : 'was stopped';
      end(new AppError('cancelled', `the client has gone, and the command ${outcome}`));
    };
    if (signal?.aborted) onLeave();
    signal?.addEventListener('abort', onLeave, { once: true });
    const commands = this.#commands;
    const command: AttachedCommand = {
      signal: controller.signal,
      get reason() {
        return reason;
      },
      end,
      [Symbol.dispose]() {
        signal?.removeEventListener('abort', onLeave);
        commands.delete(command);
        // What was opened and not read to its end is closed: the guest ends the command then.
        controller.abort();
      },
    };
    this.#commands.set(command, { isDetached });
    return command;
  }

  endAll(why: RunEnd): void {
    for (const [command, { isDetached }] of this.#commands) command.end(runEndError(why, isDetached));
  }
}

function runEndError(why: RunEnd, isDetached: boolean): AppError {
  switch (why) {
    case 'paused':
      return new AppError(
        'invalid_state',
        isDetached
          ? 'the sandbox was paused; the detached command goes on when it resumes'
          : 'the command was stopped because its sandbox was paused; start it detached to have it go on after a resume',
        { details: { state: 'paused', command: isDetached ? 'went_on' : 'stopped' } },
      );
    case 'deleted':
      return new AppError('invalid_state', 'the command ended with its sandbox, which was deleted', {
        details: { state: 'stopping', command: 'stopped' },
      });
    case 'lost':
      return new AppError('guest_unavailable', "the command ended with its microVM; see the sandbox's status", {
        details: { command: 'stopped' },
      });
  }
}
