import { parentPort } from 'node:worker_threads';
import { AppError, errorText } from '@aviary/core';
import { setThreadFileCredentials } from '@aviary/linux';
import { fromFileError } from '../node-error.ts';
import type { GuestUser } from '../users/user-database.ts';
import { fileOperations } from './file-operations.ts';
import type { OperationContext } from './operation-context.ts';
import type { ThreadAnswer, ThreadJob } from './thread-messages.ts';

// The entry of a thread that does one file operation after the other, each with the rights of its user.

const root = { uid: 0, gid: 0, groups: [0] };
const ownUid = process.getuid?.();

/** Without root's rights there is one user only to act as. */
function actAs(user: Pick<GuestUser, 'uid' | 'gid' | 'groups'>): void {
  if (ownUid === 0) setThreadFileCredentials(user);
  else if (user.uid !== ownUid) throw new AppError('forbidden', 'cannot act as another user: the agent is not root');
}

function perform({ operation, user, input, cancelled }: ThreadJob): unknown {
  const context: OperationContext = {
    user,
    checkCancelled: () => {
      if (Atomics.load(cancelled, 0) !== 0) throw new AppError('cancelled', 'the client left');
    },
    asRoot: (work) => {
      actAs(root);
      try {
        return work();
      } finally {
        actAs(user);
      }
    },
  };
  actAs(user);
  return (fileOperations[operation] as (context: OperationContext, input: unknown) => unknown)(context, input);
}

function answerError(error: unknown): ThreadAnswer {
  const known = fromFileError(error);
  if (known instanceof AppError) {
    return { error: { code: known.code, message: known.message, details: known.details } };
  }
  return { error: { code: undefined, message: errorText(error), details: {} } };
}

parentPort?.on('message', (job: ThreadJob) => {
  let answer: ThreadAnswer;
  try {
    answer = { output: perform(job) };
  } catch (error) {
    answer = answerError(error);
  }
  parentPort?.postMessage(answer);
});
