import { fileLimits, type IdKind, idPrefixes, sandboxLimits } from '@aviary/core';
import { Type } from 'typebox';

/** For requests: a field that the schema does not name is refused. */
export const closed = { additionalProperties: false };

export const timestamp = Type.String({ format: 'date-time' });

export const nullable = <T extends ReturnType<typeof Type.String | typeof Type.Integer>>(schema: T) =>
  Type.Union([schema, Type.Null()]);

export const wireId = (kind: IdKind) => Type.String({ pattern: `^${idPrefixes[kind]}-[0-9a-f-]{36}$` });

/** Text that can reach a guest's C strings: no NUL. */
export const text = (maxLength: number, minLength = 0) =>
  Type.String({ minLength, maxLength, pattern: '^[^\\u0000]*$' });

/** A whole number of one of core's ranges. */
export const range = ({ min, max }: { min: number; max: number }) => Type.Integer({ minimum: min, maximum: max });

const namePattern = '^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$';

/** A name that is safe as one part of a path. */
export const safeName = Type.String({ pattern: namePattern });

/** The name of a template, `minimal` when none is given. */
export const templateName = Type.String({ pattern: namePattern, default: 'minimal' });

export const envs = Type.Record(Type.String(), text(sandboxLimits.envBytes), {
  propertyNames: { pattern: '^[^=\\u0000]+$', maxLength: 256 },
  maxProperties: sandboxLimits.envEntries,
  description: `Environment variables; names and values together at most ${sandboxLimits.envBytes} bytes.`,
});

/** A path in a guest. */
export const path = text(fileLimits.maxPathBytes, 1);

/** A user of a guest. */
export const user = Type.Optional(text(64, 1));

export const cursor = Type.Optional(Type.String({ maxLength: 512 }));

export const limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 }));
