import type { Module } from '../module.ts';
import { registerOperations } from '../operations/operation-registry.ts';
import { registerActivityRoutes } from './activity-routes.ts';
import { registerExecRoute } from './exec.ts';
import { registerExecStreamRoute } from './exec-stream.ts';
import { registerFileRoutes } from './files.ts';
import { registerGenerationRoutes } from './generation-routes.ts';
import { createHandler } from './run-create.ts';
import { destroyHandler } from './run-destroy.ts';
import { forkHandler } from './run-fork.ts';
import { pauseHandler } from './run-pause.ts';
import { resumeHandler } from './run-resume.ts';
import { sandboxOperations } from './sandbox-operations.ts';
import { registerSandboxRoutes } from './sandbox-routes.ts';
import { clearTeamSandboxes } from './team-sandboxes.ts';

/** Sandboxes: their life, their saved states, and what runs in them. */
export const sandboxesModule: Module = {
  name: 'sandboxes',
  routes(app, context) {
    registerSandboxRoutes(app, context);
    registerActivityRoutes(app, context);
    registerGenerationRoutes(app, context);
    registerExecRoute(app, context);
    registerExecStreamRoute(app, context);
    registerFileRoutes(app, context);
  },
  // A stopped sandbox stays for what is told of it; operations go by their age.
  teamResources: (context) => [
    { tables: ['sandboxes', 'operations'], clear: (teamId) => clearTeamSandboxes(context, teamId) },
  ],
  operations: (context) =>
    registerOperations(sandboxOperations, {
      create: createHandler(context),
      destroy: destroyHandler(context),
      pause: pauseHandler(context),
      resume: resumeHandler(context),
      fork: forkHandler(context),
    }),
};
