import fc from 'fast-check';

/** A JSON schema as our OpenAPI document has them. */
export interface Schema {
  $ref?: string;
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  pattern?: string;
  format?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
  minProperties?: number;
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  patternProperties?: Record<string, Schema>;
  propertyNames?: Schema;
}

export interface ArbitraryDeps {
  /** What a `$ref` refers to. */
  resolve(ref: string): Schema;
  /** A value that means something, for a string of this pattern. */
  known(pattern: string): string | undefined;
}

/** Long texts say no more than short ones. */
const longest = 40;

/** Values that fit `schema`. */
export function fitting(schema: Schema, deps: ArbitraryDeps): fc.Arbitrary<unknown> {
  if (schema.$ref !== undefined) return fitting(deps.resolve(schema.$ref), deps);
  if ('const' in schema) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map((one) => fitting(one, deps)));
  switch (schema.type) {
    case 'null':
      return fc.constant(null);
    case 'boolean':
      return fc.boolean();
    case 'integer':
    case 'number':
      return integers(schema);
    case 'string':
      return strings(schema, deps);
    case 'array':
      return arrays(schema, deps);
    case 'object':
      return objects(schema, deps);
    default:
      return fc.jsonValue();
  }
}

function integers({ minimum = -1_000, maximum = Number.MAX_SAFE_INTEGER }: Schema): fc.Arbitrary<number> {
  // Small ones first: what is asked for is also to be had.
  return fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: minimum, max: Math.min(maximum, minimum + 10) }) },
    { weight: 1, arbitrary: fc.constantFrom(minimum, maximum) },
  );
}

function strings({ pattern, format, minLength = 0, maxLength = Infinity }: Schema, deps: ArbitraryDeps) {
  if (format === 'date-time')
    return fc.date({ noInvalidDate: true, min: new Date(0) }).map((date) => date.toISOString());
  const free = fc.string({ minLength, maxLength: Math.min(maxLength, longest), unit: 'grapheme' });
  if (pattern === undefined) return free;
  const expression = new RegExp(pattern);
  // Most patterns only forbid a character or two.
  const fits = (text: string) => expression.test(text) && text.length >= minLength && text.length <= maxLength;
  const matching = /\^\[\^/.test(pattern) ? free.filter(fits) : fc.stringMatching(expression).filter(fits);
  const known = deps.known(pattern);
  return known === undefined ? matching : fc.oneof({ weight: 3, arbitrary: fc.constant(known) }, matching);
}

function arrays({ items = {}, minItems = 0, maxItems = 4, uniqueItems = false }: Schema, deps: ArbitraryDeps) {
  const lengths = { minLength: minItems, maxLength: Math.min(maxItems, 4) };
  const item = fitting(items, deps);
  return uniqueItems ? fc.uniqueArray(item, lengths) : fc.array(item, lengths);
}

function objects(schema: Schema, deps: ArbitraryDeps): fc.Arbitrary<Record<string, unknown>> {
  const [values] = Object.values(schema.patternProperties ?? {});
  if (values) {
    const names = fitting({ type: 'string', minLength: 1, ...schema.propertyNames }, deps) as fc.Arbitrary<string>;
    return fc.dictionary(names, fitting(values, deps), { maxKeys: 3 });
  }
  const fields = Object.entries(schema.properties ?? {}).map(([name, one]) => [name, fitting(one, deps)] as const);
  return fc
    .record(Object.fromEntries(fields), { requiredKeys: schema.required ?? [] })
    .filter((made) => Object.keys(made).length >= (schema.minProperties ?? 0));
}

/** What nobody means to send. */
const nasty = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    '',
    '\0',
    'x\0y',
    '\ud800',
    '💥'.repeat(200),
    '../../etc',
    -1,
    0.5,
    1e308,
    2 ** 53,
    true,
    [],
    {},
  ),
  fc.jsonValue({ maxDepth: 2 }),
);

/** Values that are `good` but for one place, or something else altogether. */
export function spoiled(good: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const inside = fc
    .tuple(good, nasty, fc.nat(), fc.constantFrom('replace', 'remove', 'add'))
    .map(([value, bad, at, how]) => {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return bad;
      const names = Object.keys(value);
      const name =
        how === 'add' || names.length === 0
          ? ['surprise', '__proto__', 'constructor'][at % 3]
          : names[at % names.length];
      const rest = Object.entries(value).filter(([one]) => one !== name);
      // Not by assignment: `__proto__` is to arrive as a field.
      return Object.fromEntries(how === 'remove' ? rest : [...rest, [name, bad]]);
    });
  return fc.oneof({ weight: 4, arbitrary: inside }, { weight: 1, arbitrary: nasty });
}
