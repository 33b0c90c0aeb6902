import { ErrorReply, errorStatuses, type Route } from '@aviary/api-contract';
import type { ValidateFunction } from 'ajv';
import type { TSchema } from 'typebox';
import { compileValidator } from './validator.ts';

const validators = new WeakMap<TSchema, ValidateFunction>();

/** What is wrong with an answer, by the contract: a status that the route does not name, or a body that is not as its schema says. */
export function findAnswerFault(route: Route, { status, body }: { status: number; body: unknown }): string | undefined {
  const where = `${route.method} ${route.path} answered ${status}`;
  if (status >= 400) {
    if (!errorStatuses(route).includes(status)) return `${where}, which the contract does not name`;
    return describe(where, findFault(ErrorReply, body));
  }
  if (!Object.hasOwn(route.replies, status)) return `${where}, which the contract does not name`;
  const reply = route.replies[status];
  if (reply === null) return body === undefined || body === '' ? undefined : `${where} with a body where none belongs`;
  // Bytes are not looked into.
  if (reply === undefined || typeof reply === 'string') return undefined;
  return describe(where, findFault(reply, body));
}

/** Where and how `value` is not as `schema` says, fields that it does not name included. */
export function findFault(schema: TSchema, value: unknown): string | undefined {
  let validate = validators.get(schema);
  if (!validate) {
    validate = compileValidator(closeObjects(schema) as object, 'body');
    validators.set(schema, validate);
  }
  // As it goes over the wire: dates are text, what is undefined is absent.
  if (validate(JSON.parse(JSON.stringify(value ?? null)))) return undefined;
  const [first] = validate.errors ?? [];
  return `${first?.instancePath || 'the whole'} ${first?.message} ${JSON.stringify(first?.params)}`;
}

function describe(where: string, fault: string | undefined): string | undefined {
  return fault === undefined ? undefined : `${where} with a body that does not fit its schema: ${fault}`;
}

/** Clients accept fields that a newer server adds; a server may answer none that its contract does not name. */
function closeObjects(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closeObjects);
  if (typeof schema !== 'object' || schema === null) return schema;
  const closed = Object.fromEntries(Object.entries(schema).map(([key, inner]) => [key, closeObjects(inner)]));
  const isOpen = closed['properties'] && !('additionalProperties' in closed) && !closed['patternProperties'];
  return isOpen ? { ...closed, additionalProperties: false } : closed;
}
