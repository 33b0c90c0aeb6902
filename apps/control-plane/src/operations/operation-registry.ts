import { AppError, must } from '@aviary/core';
import Value from 'typebox/value';
import type {
  Operation,
  OperationDefinition,
  OperationDefinitions,
  OperationHandler,
  OperationHandlers,
  RunContext,
  Settle,
  StoredOperation,
  Subject,
  SubjectOf,
} from './operation.ts';

/** A stored operation whose payload was read: what its handler does with it. */
export interface OpenedOperation {
  retryBudgetMs: number;
  run(context: RunContext): Promise<Settle>;
  fail(failure: AppError): Promise<Settle>;
}

/** One kind of operation that this process can carry out. */
export interface RegisteredOperation {
  kind: string;
  /** Reads a stored operation of this kind. Throws `integrity` when it is not what this version writes. */
  open(stored: StoredOperation): OpenedOperation;
}

/** A domain's operations as its module hands them to the engine. */
export function registerOperations<D extends OperationDefinitions>(
  definitions: D,
  handlers: OperationHandlers<D>,
): RegisteredOperation[] {
  const register = <K extends keyof D & string>(kind: K) =>
    registerOne<K, D[K]>({
      kind,
      definition: must(definitions[kind], 'a kind is one of the keys'),
      handler: handlers[kind],
    });
  return (Object.keys(definitions) as (keyof D & string)[]).map(register);
}

function registerOne<K extends string, D extends OperationDefinition>({
  kind,
  definition,
  handler,
}: {
  kind: K;
  definition: D;
  handler: OperationHandler<Operation<K, D>>;
}): RegisteredOperation {
  return {
    kind,
    open(stored) {
      const operation = readOperation(kind, definition, stored);
      return {
        retryBudgetMs: handler.retryBudgetMs,
        run: (context) => handler.run(operation, context),
        fail: (failure) => handler.fail(operation, failure),
      };
    },
  };
}

function readOperation<K extends string, D extends OperationDefinition>(
  kind: K,
  definition: D,
  { subject, payload, ...facts }: StoredOperation,
): Operation<K, D> {
  const { subject: subjectType, payload: schema }: Pick<D, 'subject' | 'payload'> = definition;
  if (isSubject(subject, subjectType) && Value.Check(schema, payload)) return { ...facts, kind, subject, payload };
  throw new AppError('integrity', `the stored ${kind} is not one that this version of the control plane can read`);
}

function isSubject<T extends Subject['type']>(subject: Subject, type: T): subject is SubjectOf<T> {
  return subject.type === type;
}
