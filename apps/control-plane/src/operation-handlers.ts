import type { ServiceContext } from './context.ts';
import type { AgentDeps } from './hosts/agent-call.ts';
import type { OperationHandlers } from './operations/operation.ts';
import { createHandler } from './sandboxes/run-create.ts';
import { destroyHandler } from './sandboxes/run-destroy.ts';
import { forkHandler } from './sandboxes/run-fork.ts';
import { pauseHandler } from './sandboxes/run-pause.ts';
import { resumeHandler } from './sandboxes/run-resume.ts';
import type { SettledWatch } from './sandboxes/settled-watch.ts';
import { snapshotCreateHandler, snapshotDeleteHandler } from './snapshots/run-snapshot.ts';

/** The handler of every kind of operation. */
export function operationHandlers(
  deps: AgentDeps & Pick<ServiceContext, 'database'> & { watch: SettledWatch },
): OperationHandlers {
  return {
    create: createHandler(deps),
    destroy: destroyHandler(deps),
    pause: pauseHandler(deps),
    resume: resumeHandler(deps),
    fork: forkHandler(deps),
    snapshot_create: snapshotCreateHandler(deps),
    snapshot_delete: snapshotDeleteHandler(deps),
  };
}
