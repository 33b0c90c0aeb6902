import type { TSchema } from 'typebox';

const names = new WeakMap<TSchema, string>();
const schemas = new Map<string, TSchema>();

/** Declares `schema` as a component of the OpenAPI document: wherever this very schema is used, the document refers to it by `name`. */
export function component<S extends TSchema>(name: string, schema: S): S {
  if (schemas.has(name)) throw new Error(`two components are called ${name}`);
  schemas.set(name, schema);
  names.set(schema, name);
  return schema;
}

/** The name that {@link component} gave to this schema. */
export function componentName(schema: unknown): string | undefined {
  return typeof schema === 'object' && schema !== null ? names.get(schema as TSchema) : undefined;
}

/** The component of that name. Throws when there is none. */
export function componentSchema(name: string): TSchema {
  const schema = schemas.get(name);
  if (!schema) throw new Error(`no component is called ${name}`);
  return schema;
}
