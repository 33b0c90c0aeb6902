import { AppError } from '@aviary/core';
import Value from 'typebox/value';
import type {
  OperationDefinitions,
  OperationHandler,
  OperationHandlers,
  OperationOf,
  RunContext,
  Settle,
  StoredOperation,
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
  return (Object.keys(definitions) as (keyof D & string)[]).map((kind) =>
    registerOne(kind, definitions, handlers[kind]),
  );
}

function registerOne<D extends OperationDefinitions, K extends keyof D & string>(
  kind: K,
  definitions: D,
  handler: OperationHandler<OperationOf<D, K>>,
): RegisteredOperation {
  return {
    kind,
    open(stored) {
      const operation = readOperation(kind, definitions, stored);
      return {
        retryBudgetMs: handler.retryBudgetMs,
        run: (context) => handler.run(operation, context),
        fail: (failure) => handler.fail(operation, failure),
      };
    },
  };
}

function readOperation<D extends OperationDefinitions, K extends keyof D & string>(
  kind: K,
  definitions: D,
  stored: StoredOperation,
): OperationOf<D, K> {
  const definition = definitions[kind];
  const isReadable =
    definition !== undefined &&
    stored.subject.type === definition.subject &&
    Value.Check(definition.payload, stored.payload);
  if (isReadable) return { ...stored, kind } as unknown as OperationOf<D, K>;
  throw new AppError('integrity', `the stored ${kind} is not one that this version of the control plane can read`);
}
