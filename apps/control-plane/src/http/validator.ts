import { Ajv, type AnySchema, type ValidateFunction } from 'ajv';

const options = {
  allErrors: false,
  useDefaults: true,
  strict: false,
  // Errors carry the value at fault, for messages.
  verbose: true,
  formats: { 'date-time': /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/, binary: true },
} as const;

/** Bodies mean what they say: "1" is not 1, and unknown fields are refused. */
const strict = new Ajv({ ...options, coerceTypes: false });
/** Query strings and paths are text, so numbers are read from it. */
const coercing = new Ajv({ ...options, coerceTypes: true });

export function compileValidator(schema: AnySchema, place: 'body' | 'text'): ValidateFunction {
  return (place === 'body' ? strict : coercing).compile(schema);
}
