import type { Database, Tables } from '@aviary/database';
import type { Clock, FaultPoints, Logger } from '@aviary/service-kit';
import type { Kysely } from 'kysely';

/** A connection or a transaction. */
export type Db = Kysely<Tables>;

/** What nearly everything needs. Functions ask for the part they use. */
export interface ServiceContext {
  database: Database;
  clock: Clock;
  logger: Logger;
  faults: FaultPoints;
  /** This process among the replicas: the owner of leases. */
  replicaId: string;
}

/** Who asks for a change; goes to the audit log. */
export interface Actor {
  type: 'user' | 'api_key' | 'host' | 'system';
  id: string | null;
  /** As it is now: the log keeps it. */
  name: string;
}
