import type { ServiceContext } from '../context.ts';
import type { SettledWatch } from '../sandboxes/settled-watch.ts';
import type { AgentDeps } from './agent-call.ts';
import type { OperationHandlers } from './operation.ts';
import { createHandler } from './run-create.ts';
import { destroyHandler } from './run-destroy.ts';
import { forkHandler } from './run-fork.ts';
import { pauseHandler } from './run-pause.ts';
import { resumeHandler } from './run-resume.ts';
import { snapshotCreateHandler, snapshotDeleteHandler } from './run-snapshot.ts';

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
