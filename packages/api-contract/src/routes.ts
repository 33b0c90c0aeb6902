import { accountDeletionRoutes } from './account-deletion.ts';
import { authRoutes, meRoutes } from './accounts.ts';
import { activityRoutes } from './activity.ts';
import { adminRoutes } from './admin.ts';
import { apiKeyRoutes } from './api-keys.ts';
import { auditRoutes } from './audit.ts';
import { callerRoutes } from './caller.ts';
import { execRoutes, execStreamRoutes } from './exec.ts';
import { fileRoutes } from './files.ts';
import { generationRoutes } from './generations.ts';
import { healthRoutes } from './health.ts';
import { hostEventRoutes } from './host-events.ts';
import { hostRoutes } from './hosts.ts';
import { identityRoutes, signInRoutes } from './identities.ts';
import { operationRoutes } from './operations.ts';
import { passkeyRoutes } from './passkeys.ts';
import { quotaRoutes } from './quotas.ts';
import type { RouteTable } from './route.ts';
import { sandboxRoutes } from './sandboxes.ts';
import { secondFactorRoutes } from './second-factors.ts';
import { snapshotRoutes } from './snapshots.ts';
import { teamRoutes } from './teams.ts';

/** Every route of the public API: the server registers from it, and the OpenAPI document is made from it. */
export const routes = {
  ...sandboxRoutes,
  ...activityRoutes,
  ...execRoutes,
  ...execStreamRoutes,
  ...fileRoutes,
  ...generationRoutes,
  ...snapshotRoutes,
  ...operationRoutes,
  ...teamRoutes,
  ...apiKeyRoutes,
  ...callerRoutes,
  ...quotaRoutes,
  ...auditRoutes,
  ...adminRoutes,
  ...hostRoutes,
  ...hostEventRoutes,
  ...authRoutes,
  ...meRoutes,
  ...accountDeletionRoutes,
  ...secondFactorRoutes,
  ...signInRoutes,
  ...identityRoutes,
  ...passkeyRoutes,
  ...healthRoutes,
} as const satisfies RouteTable;

export type RouteName = keyof typeof routes;
