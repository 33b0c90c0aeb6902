import path from 'node:path';
import { uuidv7 } from '@aviary/core';
import { type Database, type MigrationSource, migrate, openDatabase } from '@aviary/database';
import {
  type Clock,
  createLogger,
  FaultPoints,
  type Logger,
  serveMetrics,
  systemClock,
  watchParent,
} from '@aviary/service-kit';
import { accessModule } from './access/access-module.ts';
import { createAuthenticate, createRecallKey } from './access/authenticate.ts';
import { KnownKeys } from './access/known-keys.ts';
import { createAccountServices } from './accounts/account-deps.ts';
import { accountsModule } from './accounts/accounts-module.ts';
import { offerClaim } from './accounts/claim-platform.ts';
import { adminModule } from './admin/admin-module.ts';
import { apiKeysModule } from './api-keys/api-keys-module.ts';
import { KeyUses } from './api-keys/key-uses.ts';
import { auditModule } from './audit/audit-module.ts';
import { accountSettings, type ControlPlaneConfig, mailSettings } from './config.ts';
import type { ServiceContext } from './context.ts';
import { defaultHearingOptions, type HearingOptions, startHearing } from './events/hear-events.ts';
import { addRequestHook } from './events/module-hooks.ts';
import { HostClients } from './hosts/host-clients.ts';
import { hostsModule } from './hosts/hosts-module.ts';
import { defaultPlacement, type PlacementOptions } from './hosts/placement.ts';
import { loadSigningKey } from './hosts/signing-key.ts';
import { OpenCalls } from './http/open-calls.ts';
import { RateLimits } from './http/rate-limits.ts';
import { IdempotencyKeys } from './idempotency/idempotency-keys.ts';
import { idempotencyModule } from './idempotency/idempotency-module.ts';
import { releaseAllKeys } from './idempotency/key-store.ts';
import { identitiesModule } from './identities/identities-module.ts';
import { IdentityProviders, type ProviderOptions } from './identities/identity-providers.ts';
import { mailModule } from './mail/mail-module.ts';
import { defaultMailerOptions, Mailer, type MailerOptions } from './mail/mailer.ts';
import type { ControlPlaneContext, Module, PlatformContext } from './module.ts';
import {
  defaultRunnerOptions,
  OperationRunner,
  type RunnerOptions,
  type SettledOperation,
} from './operations/operation-runner.ts';
import { releaseLeases } from './operations/operation-store.ts';
import { OperationWaits } from './operations/operation-waits.ts';
import { operationsModule } from './operations/operations-module.ts';
import { passkeysModule } from './passkeys/passkeys-module.ts';
import { quotasModule } from './quotas/quotas-module.ts';
import { defaultReconcilerOptions, Reconciler, type ReconcilerOptions } from './reconciliation/reconciler.ts';
import { reconciliationModule } from './reconciliation/reconciliation-module.ts';
import { sandboxesModule } from './sandboxes/sandboxes-module.ts';
import { createServer } from './server.ts';
import { snapshotsModule } from './snapshots/snapshots-module.ts';
import { bootstrap } from './teams/bootstrap.ts';
import { defaultTeamDeletionOptions, TeamDeletion, type TeamDeletionOptions } from './teams/team-deletion.ts';
import { teamsModule } from './teams/teams-module.ts';

export { insertApiKey } from './api-keys/api-key-store.ts';
export { type ControlPlaneConfig, loadConfig } from './config.ts';
export type { Actor, Db, ServiceContext } from './context.ts';
export type { AuthEvent, ModuleHooks, SandboxEvent } from './events/module-hooks.ts';
export { createHostToken } from './hosts/register-host.ts';
export { type Handlers, registerRoutes } from './http/register-routes.ts';
export type { ControlPlaneContext, Loop, Module } from './module.ts';
export type { TeamResource } from './teams/team-deletion.ts';

/** Adds routes, operations, loops and tables to the control plane: what the core's own domains are. */
export type Extension = Module;

/** The domains of the core, in the order in which their routes are registered. */
const coreModules: readonly Module[] = [
  accessModule,
  operationsModule,
  idempotencyModule,
  sandboxesModule,
  snapshotsModule,
  teamsModule,
  apiKeysModule,
  quotasModule,
  auditModule,
  adminModule,
  hostsModule,
  reconciliationModule,
  accountsModule,
  passkeysModule,
  mailModule,
  identitiesModule,
];

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
  /** Instead of what the configuration says. */
  rateLimits?: RateLimits;
  teamDeletion?: Partial<TeamDeletionOptions>;
  mailer?: Partial<MailerOptions>;
  identityProviders?: Partial<ProviderOptions>;
  hearing?: Partial<HearingOptions>;
}

export interface ControlPlane extends AsyncDisposable {
  /** Where it listens, e.g. `http://127.0.0.1:7070`. */
  url: string;
  /** Where its metrics are read, if the configuration says so. */
  metricsUrl?: string;
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
  const modules = [...coreModules, ...(overrides.extensions ?? [])];
  await migrate(
    database,
    modules.flatMap(({ name, migrations }): MigrationSource[] =>
      migrations ? [{ owner: name, directory: migrations }] : [],
    ),
  );
  // The files of an embedded store are this process's alone: whoever held a lease in them is gone.
  if (!overrides.database && database.kind === 'pglite') {
    await releaseLeases(database.db);
    await releaseAllKeys(database.db);
  }
  const context = await createContext(modules, { database, logger, config }, overrides);
  context.teamDeletion.use(modules.flatMap((module) => module.teamResources?.(context) ?? []));
  context.mailer.use(modules.flatMap((module) => module.mails?.(context) ?? []));
  stack.use(context.hostClients);
  await bootstrap(context, config.dataDirectory);
  await offerClaim(context, config.dataDirectory);
  const loops = new AbortController();
  const app = await createServer(context, config);
  context.metrics?.watchRequests(app);
  const hooks = modules.flatMap(({ name, hooks }) => (hooks ? [{ name, hooks: hooks(context) }] : []));
  for (const { name, hooks: own } of hooks) addRequestHook(app, name, own);
  for (const { routes } of modules) await routes?.(app, context);
  stack.use(context.runner);
  const hearing = await startHearing(context, hooks, { ...defaultHearingOptions, ...overrides.hearing });
  const running = [...modules.flatMap((module) => module.loops?.(context) ?? []), ...hearing].map((loop) =>
    loop(loops.signal),
  );
  stack.defer(async () => {
    loops.abort();
    await Promise.allSettled(running);
  });
  stack.defer(() => app.close());
  const url = await app.listen({ host: config.host, port: config.port });
  const metricsUrl = await startMetrics(context, config, stack);
  logger.info({ url, database: database.kind, mail: config.smtp?.host ?? 'none' }, 'control plane ready');
  const owned = stack.move();
  return {
    url,
    context,
    ...(metricsUrl === undefined ? {} : { metricsUrl }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
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

/** Serves the metrics, if the configuration says where; resolves with their URL. */
async function startMetrics(
  { metrics, logger }: ControlPlaneContext,
  config: ControlPlaneConfig,
  stack: AsyncDisposableStack,
): Promise<string | undefined> {
  if (!metrics || !config.metrics) return undefined;
  const { url } = stack.use(await serveMetrics({ logger, read: () => metrics.read() }, config.metrics));
  logger.info({ url }, 'metrics ready');
  return url;
}

/** What counts costs memory: it is loaded where somebody may read it. */
async function createMetrics(service: ServiceContext, config: ControlPlaneConfig) {
  if (!config.metrics) return undefined;
  const { ControlPlaneMetrics } = await import('./metrics/control-plane-metrics.ts');
  return new ControlPlaneMetrics(service);
}

function openConfigured(config: ControlPlaneConfig, logger: Logger): Promise<Database> {
  const onConnectionError = (error: Error) => logger.warn({ err: error }, 'database connection lost');
  if (config.databaseUrl !== undefined) return openDatabase({ url: config.databaseUrl, onConnectionError });
  return openDatabase({ directory: path.join(config.dataDirectory, 'control-plane', 'pglite') });
}

async function createContext(
  modules: readonly Module[],
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
  const hostClients = new HostClients({ ...service, signingKey });
  const keyUses = new KeyUses(service);
  const knownKeys = new KnownKeys();
  const rateLimits = overrides.rateLimits ?? (config.rateLimits && new RateLimits(service.clock, config.rateLimits));
  const metrics = await createMetrics(service, config);
  const platform: PlatformContext = {
    ...service,
    signingKey,
    hostClients,
    keyUses,
    teamDeletion: new TeamDeletion(service, { ...defaultTeamDeletionOptions, ...overrides.teamDeletion }),
    openCalls: new OpenCalls(service),
    authenticate: createAuthenticate({ ...service, signingKey, keyUses, knownKeys }),
    recallKey: createRecallKey({ keyUses, knownKeys }),
    ...(rateLimits ? { rateLimits } : {}),
    publicUrl: accountSettings(config).publicUrl,
    checksAnswers: config.checksAnswers ?? false,
    idempotency: new IdempotencyKeys(service),
    waits: new OperationWaits(service),
    reconciler: new Reconciler({ ...service, hostClients }, { ...defaultReconcilerOptions, ...overrides.reconciler }),
    placement: { ...defaultPlacement, ...overrides.placement },
    accounts: createAccountServices(service, accountSettings(config)),
    mailer: new Mailer(service, mailSettings(config), { ...defaultMailerOptions, ...overrides.mailer }),
    identityProviders: new IdentityProviders(service, config.identityProviders ?? [], overrides.identityProviders),
    dataDirectory: config.dataDirectory,
    ...(metrics ? { metrics } : {}),
  };
  const operations = modules.flatMap((module) => module.operations?.(platform) ?? []);
  const noteSettled = metrics && ((operation: SettledOperation) => metrics.noteSettled(operation));
  const runner = new OperationRunner(
    { ...service, operations, noteSettled },
    { ...defaultRunnerOptions, ...overrides.runner },
  );
  return { ...platform, runner };
}
