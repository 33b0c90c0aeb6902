import type { AppError, HostId, OperationId, SandboxId, TeamId, TemplateId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import type { Static, TSchema } from 'typebox';
import type { PhaseLog } from './phase-log.ts';

/** What an operation is about. */
export type Subject =
  | { type: 'sandbox'; id: SandboxId }
  | { type: 'template'; id: TemplateId }
  | { type: 'host'; id: HostId };

/** What the operations of a subject's type are about. */
export type SubjectOf<T extends Subject['type']> = Extract<Subject, { type: T }>;

/** One kind of operation: what it is about, and what it keeps to be carried out by any replica. */
export interface OperationDefinition {
  subject: Subject['type'];
  payload: TSchema;
}

/** The kinds of operations of one domain. A kind's name is unique among all domains. */
export type OperationDefinitions = Readonly<Record<string, OperationDefinition>>;

/** What every operation has. */
export interface OperationFacts {
  id: OperationId;
  teamId: TeamId;
  /** The sandbox that it works on, if any: a snapshot's source, though the snapshot is the subject. */
  sandboxId: SandboxId | null;
  /** The request that asked for it. */
  requestId: string | null;
  /** 1 for the replica that accepted it; one more for each that took it over. */
  attempt: number;
  createdAt: Date;
}

/** An operation as the store has it: nobody has looked into its payload yet. */
export interface StoredOperation extends OperationFacts {
  kind: string;
  subject: Subject;
  payload: unknown;
}

/** An operation of one kind, as its handler gets it. */
export type Operation<K extends string, D extends OperationDefinition> = OperationFacts & {
  kind: K;
  subject: SubjectOf<D['subject']>;
  payload: Static<D['payload']>;
};

/** The operations of a domain, told apart by `kind`. */
export type OperationOf<D extends OperationDefinitions, K extends keyof D & string = keyof D & string> = {
  [P in K]: Operation<P, D[P]>;
}[K];

/** What a command leaves to be carried out. */
export type NewOperation<D extends OperationDefinitions, K extends keyof D & string = keyof D & string> = {
  [P in K]: Pick<OperationOf<D, P>, 'teamId' | 'sandboxId' | 'kind' | 'subject' | 'payload'>;
}[K];

/** How an operation ended: what it answers, or why it did not come about. */
export type Settlement =
  | { state: 'succeeded'; result: object }
  /** `superseded`: another command came between, and its outcome stands. */
  | { state: 'failed' | 'superseded'; error: AppError };

/** Writes the outcome, in the transaction that ends the operation. */
export type Settle = (unit: UnitOfWork) => Promise<Settlement>;

/** What a handler gets besides its operation. */
export interface RunContext {
  /** Aborts when the operation is no longer this replica's. */
  signal: AbortSignal;
  phases: PhaseLog;
}

/** Carries out one kind of operation. Both functions may run again after a crash: agents do the work of an id once. */
export interface OperationHandler<O extends OperationFacts> {
  /** How long to go on trying while the host does not answer: an agent that is restarted answers well within it. */
  retryBudgetMs: number;
  run(operation: O, context: RunContext): Promise<Settle>;
  /** The outcome when `run` has failed for good. `failure` is in words that a user may read. */
  fail(operation: O, failure: AppError): Promise<Settle>;
}

/** A handler for every kind of a domain. */
export type OperationHandlers<D extends OperationDefinitions> = {
  [K in keyof D & string]: OperationHandler<Operation<K, D[K]>>;
};
