import type { FastifyInstance } from 'fastify';
import type { AccountServices } from './accounts/account-deps.ts';
import type { KeyUses } from './api-keys/key-uses.ts';
import type { ServiceContext } from './context.ts';
import type { ModuleHooks } from './events/module-hooks.ts';
import type { HostClients } from './hosts/host-clients.ts';
import type { PlacementOptions } from './hosts/placement.ts';
import type { SigningKey } from './hosts/signing-key.ts';
import type { OpenCalls } from './http/open-calls.ts';
import type { ApiDeps } from './http/register-routes.ts';
import type { IdempotencyKeys } from './idempotency/idempotency-keys.ts';
import type { IdentityProviders } from './identities/identity-providers.ts';
import type { MailKind } from './mail/mail-kind.ts';
import type { Mailer } from './mail/mailer.ts';
import type { ControlPlaneMetrics } from './metrics/control-plane-metrics.ts';
import type { RegisteredOperation } from './operations/operation-registry.ts';
import type { OperationRunner } from './operations/operation-runner.ts';
import type { OperationWaits } from './operations/operation-waits.ts';
import type { Reconciler } from './reconciliation/reconciler.ts';
import type { TeamDeletion, TeamResource } from './teams/team-deletion.ts';

/** What handlers of operations are made of. */
export interface PlatformContext extends ServiceContext, ApiDeps {
  signingKey: SigningKey;
  hostClients: HostClients;
  keyUses: KeyUses;
  teamDeletion: TeamDeletion;
  openCalls: OpenCalls;
  placement: PlacementOptions;
  idempotency: IdempotencyKeys;
  waits: OperationWaits;
  reconciler: Reconciler;
  accounts: AccountServices;
  mailer: Mailer;
  identityProviders: IdentityProviders;
  /** Only where the configuration says that somebody may read them. */
  metrics?: ControlPlaneMetrics;
  /** This replica's own files. */
  dataDirectory: string;
}

/** Everything that a part of the control plane may use. */
export interface ControlPlaneContext extends PlatformContext {
  runner: OperationRunner;
}

/** Runs until `signal` aborts. */
export type Loop = (signal: AbortSignal) => Promise<void>;

/**
 * A part of the control plane: what it adds to the API, to what can be carried out, to what goes on by itself and to the
 * store. The core's own domains are modules, and an extension is one.
 */
export interface Module {
  name: string;
  /** A directory of numbered SQL files, applied after the core's. */
  migrations?: string;
  routes?(app: FastifyInstance, context: ControlPlaneContext): void | Promise<void>;
  /** The kinds of operations that the module's commands leave behind; made before the runner, which carries them out. */
  operations?(context: PlatformContext): readonly RegisteredOperation[];
  /** The mails that the module causes; made before the mailer sends the first. */
  mails?(context: ControlPlaneContext): readonly MailKind[];
  loops?(context: ControlPlaneContext): readonly Loop[];
  /** What the module does when something happened, or before a request is looked at. */
  hooks?(context: ControlPlaneContext): ModuleHooks;
  /** What teams own in the module's tables. A table with a `team_id` that no module answers for fails the tests. */
  teamResources?(context: ControlPlaneContext): readonly TeamResource[];
}
