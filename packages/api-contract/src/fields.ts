import {
  fileLimits,
  type IdKind,
  notAnId,
  safeNameRule,
  safeNameSource,
  sandboxLimits,
  wireIdSource,
} from '@aviary/core';
import { type TSchema, Type } from 'typebox';

/** For requests: a field that the schema does not name is refused. */
export const closed = { additionalProperties: false };

export const timestamp = Type.String({ format: 'date-time' });

export const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);

/** Where a schema keeps what is told about a value that its pattern refuses: not in the document, which has no symbols. */
const rule = Symbol('rule');

type Rule = (field: string, value: string) => string;

/** What to tell people about a value that is not as the pattern of `schema` says; undefined for a pattern that speaks for itself. */
export function patternRule(schema: unknown): Rule | undefined {
  return (schema as { [rule]?: Rule } | undefined)?.[rule];
}

/** A pattern, and what is told about a value that is not as it says. Of the schema: others may have the same pattern. */
function ruled(pattern: string, tell: Rule): { pattern: string } {
  const options: { pattern: string; [rule]: Rule } = { pattern, [rule]: tell };
  return options;
}

export const wireId = (kind: IdKind) =>
  Type.String(ruled(`^${wireIdSource(kind)}$`, (_field, value) => notAnId(kind, value)));

/** Text that can reach a guest's C strings: no NUL. */
export const text = (maxLength: number, minLength = 0) =>
  Type.String({ minLength, maxLength, pattern: '^[^\\u0000]*$' });

/** A whole number of one of core's ranges. */
export const range = ({ min, max }: { min: number; max: number }, description?: string) =>
  Type.Integer({ minimum: min, maximum: max, ...(description === undefined ? {} : { description }) });

const nameOptions = ruled(`^${safeNameSource}$`, (field) => `${field} must be ${safeNameRule}`);

/** A name that is safe as one part of a path. */
export const safeName = Type.String(nameOptions);

/** The name of a template, `minimal` when none is given. */
export const templateName = Type.String({ ...nameOptions, default: 'minimal' });

export const envs = Type.Record(Type.String(), text(sandboxLimits.envBytes), {
  propertyNames: {
    ...ruled(
      '^[^=\\u0000]+$',
      (field, value) => `${field} cannot hold ${JSON.stringify(value)}: a name is not empty and has no "=" or NUL`,
    ),
    maxLength: 256,
  },
  maxProperties: sandboxLimits.envEntries,
  description: `Environment variables; names and values together at most ${sandboxLimits.envBytes} bytes.`,
});

/** A path in a guest. */
export const path = text(fileLimits.maxPathBytes, 1);

/** A user of a guest. */
export const user = Type.Optional(text(64, 1));

/** Where a page begins: the `next_cursor` of the page before, whose parts have these patterns (without anchors). */
export const cursor = (...parts: string[]) =>
  Type.Optional(
    Type.String({
      ...ruled(`^${parts.join('~')}$`, () => 'the cursor is not one that this list gave; start without one'),
      description: 'The `next_cursor` of the page before. Take it as it is: what it holds may change.',
    }),
  );

/** Members of a closed set, separated by commas. */
export const listOf = (members: readonly string[], { description }: { description: string }) => {
  const one = `(${members.join('|')})`;
  const options = ruled(
    `^${one}(,${one})*$`,
    (field) => `${field} must be of ${members.join(', ')}, separated by commas`,
  );
  return Type.Optional(Type.String({ ...options, description }));
};

export const limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 }));

/** The beginning of an e-mail address, long enough not to be a list of everybody. */
export const emailPrefix = Type.String({
  maxLength: 254,
  ...ruled(
    '^[^@\\s]{3,64}@[^@\\s]*$',
    (field) => `${field} must be the beginning of an address: at least three characters and the "@"`,
  ),
});

/** Characters that steer a terminal or the direction of a text, or show nothing: controls (also C1), bidirectional and zero-width ones. */
const unreadable =
  '\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb';
/** Those that belong between others, as joiners do in emoji and in Persian, and show nothing alone. */
const alone = '\\u00ad\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200c\\u200d\\u2800\\u3164\\ufe00-\\ufe0f\\uffa0';

/** What people call a thing, shown to others in pages, mails and terminals: one line with something to see. */
export const readableName = (maxLength: number) =>
  Type.String({
    minLength: 1,
    maxLength,
    ...ruled(
      `^[^${unreadable}]*[^\\s${unreadable}${alone}][^${unreadable}]*$`,
      (field) => `${field} must hold something that can be seen, and no control characters`,
    ),
  });

/** What teams are called. */
export const teamName = readableName(128);
