import path from 'node:path';
import { uuidv7 } from '@aviary/core';
import { type Database, type MigrationSource, migrate, openDatabase } from '@aviary/database';
import { type Clock, createLogger, FaultPoints, type Logger, systemClock, watchParent } from '@aviary/service-kit';
import type { FastifyInstance } from 'fastify';
import { createAuthenticate } from './access/authenticate.ts';
import type { ControlPlaneConfig } from './config.ts';
import type { ServiceContext } from './context.ts';
import { HostClients } from './hosts/host-clients.ts';
import { registerHostRoutes } from './hosts/host-routes.ts';
import { defaultPlacement, type PlacementOptions } from './hosts/placement.ts';
import { loadSigningKey, type SigningKey } from './hosts/signing-key.ts';
import type { Authenticate } from './http/register-routes.ts';
import { operationHandlers } from './operation-handlers.ts';
import { defaultRunnerOptions, OperationRunner, type RunnerOptions } from './operations/operation-runner.ts';
import { releaseLeases } from './operations/operation-store.ts';
import { registerEventRoutes } from './reconciliation/event-routes.ts';
import { defaultReconcilerOptions, Reconciler, type ReconcilerOptions } from './reconciliation/reconciler.ts';
import { registerActivityRoutes } from './sandboxes/activity-routes.ts';
import { registerExecRoute } from './sandboxes/exec.ts';
import { registerExecStreamRoute } from './sandboxes/exec-stream.ts';
import { registerFileRoutes } from './sandboxes/files.ts';
import { registerGenerationRoutes } from './sandboxes/generation-routes.ts';
import { registerSandboxRoutes } from './sandboxes/sandbox-routes.ts';
import { SettledWatch } from './sandboxes/settled-watch.ts';
import { createServer } from './server.ts';
import { registerSnapshotRoutes } from './snapshots/snapshot-routes.ts';
import { bootstrap } from './teams/bootstrap.ts';

export { insertApiKey } from './api-keys/api-key-store.ts';
export { type ControlPlaneConfig, loadConfig } from './config.ts';
export type { Actor, Db, ServiceContext } from './context.ts';
export { createHostToken } from './hosts/register-host.ts';

/** What the core's own parts are made of; extensions get the same. */
export interface ControlPlaneContext extends ServiceContext {
  authenticate: Authenticate;
  checksAnswers: boolean;
  signingKey: SigningKey;
  hostClients: HostClients;
  runner: OperationRunner;
  reconciler: Reconciler;
  watch: SettledWatch;
  placement: PlacementOptions;
}

/** Adds routes, loops and tables to the control plane. */
export interface Extension {
  name: string;
  migrations?: string;
  registerRoutes?: (app: FastifyInstance, context: ControlPlaneContext) => void | Promise<void>;
  /** A loop that ends when `signal` aborts. */
  run?: (context: ControlPlaneContext, signal: AbortSignal) => Promise<void>;
}

/** What tests and embedders may set besides the configuration. */
export interface ControlPlaneOverrides {
  extensions?: readonly Extension[];
  /** An open database, which stays the caller's to close. */
  database?: Database;
  clock?: Clock;
  logger?: Logger;
  runner?: Partial<RunnerOptions>;
  reconciler?: Partial<ReconcilerOptions>;
  placement?: Partial<PlacementOptions>;
}

export interface ControlPlane extends AsyncDisposable {
  /** Where it listens, e.g. `http://127.0.0.1:7070`. */
  url: string;
  context: ControlPlaneContext;
}

/**
 * Starts one replica: schema, bootstrap files, operations that a dead replica left, then the API. Disposing stops intake,
 * hands over what is under way, and releases the rest in reverse order.
 */
export async function startControlPlane(
  config: ControlPlaneConfig,
  overrides: ControlPlaneOverrides = {},
): Promise<ControlPlane> {
  const logger = overrides.logger ?? createLogger({ name: 'control-plane', level: config.logLevel });
  await using stack = new AsyncDisposableStack();
  const database = overrides.database ?? stack.use(await openConfigured(config, logger));
  const extensions = overrides.extensions ?? [];
  await migrate(
    database,
    extensions.flatMap(({ name, migrations }): MigrationSource[] =>
      migrations ? [{ owner: name, directory: migrations }] : [],
    ),
  );
  // The files of an embedded store are this process's alone: whoever held a lease in them is gone.
  if (!overrides.database && database.kind === 'pglite') await releaseLeases(database.db);
  const context = await createContext({ database, logger, config }, overrides);
  stack.use(context.hostClients);
  await bootstrap(context, config.dataDirectory);
  const loops = new AbortController();
  const app = await createServer(context);
  registerCoreRoutes(app, context);
  for (const extension of extensions) await extension.registerRoutes?.(app, context);
  stack.use(context.runner);
  const running = [
    context.runner.run(loops.signal),
    context.reconciler.run(loops.signal),
    ...extensions.flatMap((extension) => (extension.run ? [extension.run(context, loops.signal)] : [])),
  ];
  stack.defer(async () => {
    loops.abort();
    await Promise.allSettled(running);
  });
  stack.defer(() => app.close());
  const url = await app.listen({ host: config.host, port: config.port });
  logger.info({ url, database: database.kind }, 'control plane ready');
  const owned = stack.move();
  return { url, context, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Runs the control plane until the process is told to stop by SIGTERM or SIGINT. */
export async function runControlPlane({
  config,
  extensions = [],
}: {
  config: ControlPlaneConfig;
  extensions?: readonly Extension[];
}): Promise<void> {
  const told = Promise.withResolvers<void>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => told.resolve());
  watchParent({ isEnabled: config.exitWithParent === true }).addEventListener('abort', () => told.resolve());
  await using _controlPlane = await startControlPlane(config, { extensions });
  await told.promise;
}

function openConfigured(config: ControlPlaneConfig, logger: Logger): Promise<Database> {
  const onConnectionError = (error: Error) => logger.warn({ err: error }, 'database connection lost');
  if (config.databaseUrl !== undefined) return openDatabase({ url: config.databaseUrl, onConnectionError });
  return openDatabase({ directory: path.join(config.dataDirectory, 'control-plane', 'pglite') });
}

async function createContext(
  { database, logger, config }: { database: Database; logger: Logger; config: ControlPlaneConfig },
  overrides: ControlPlaneOverrides,
): Promise<ControlPlaneContext> {
  const service: ServiceContext = {
    database,
    logger,
    clock: overrides.clock ?? systemClock,
    faults: new FaultPoints(config.fault),
    replicaId: uuidv7(),
  };
  const signingKey = await loadSigningKey(service);
  const watch = new SettledWatch();
  const hostClients = new HostClients({ ...service, signingKey });
  const handlers = operationHandlers({ ...service, hostClients, watch });
  return {
    ...service,
    signingKey,
    authenticate: createAuthenticate({ ...service, signingKey }),
    checksAnswers: config.checksAnswers ?? false,
    watch,
    hostClients,
    runner: new OperationRunner({ ...service, handlers, watch }, { ...defaultRunnerOptions, ...overrides.runner }),
    reconciler: new Reconciler(
      { ...service, hostClients, watch },
      { ...defaultReconcilerOptions, ...overrides.reconciler },
    ),
    placement: { ...defaultPlacement, ...overrides.placement },
  };
}

function registerCoreRoutes(app: FastifyInstance, context: ControlPlaneContext): void {
  registerSandboxRoutes(app, context);
  registerActivityRoutes(app, context);
  registerGenerationRoutes(app, context);
  registerSnapshotRoutes(app, context);
  registerExecRoute(app, context);
  registerExecStreamRoute(app, context);
  registerFileRoutes(app, context);
  registerHostRoutes(app, context);
  registerEventRoutes(app, context);
}
