import { execRoutes } from './exec.ts';
import { fileRoutes } from './files.ts';
import { generationRoutes } from './generations.ts';
import { healthRoutes } from './health.ts';
import { hostRoutes } from './hosts.ts';
import type { RouteTable } from './route.ts';
import { sandboxRoutes } from './sandboxes.ts';
import { snapshotRoutes } from './snapshots.ts';

/** Every route of the public API: the server registers from it, and the OpenAPI document is made from it. */
export const routes = {
  ...sandboxRoutes,
  ...execRoutes,
  ...fileRoutes,
  ...generationRoutes,
  ...snapshotRoutes,
  ...hostRoutes,
  ...healthRoutes,
} as const satisfies RouteTable;

export type RouteName = keyof typeof routes;
