/** Stands between the parts of a cursor; no id and no name holds it. */
const separator = '~';

/** A page's end, as the contract's cursor patterns describe it. */
export function joinCursor(...parts: string[]): string {
  return parts.join(separator);
}

/** The parts of a cursor that its schema has checked; all undefined for the first page. */
export function splitCursor(cursor: string | undefined): (string | undefined)[] {
  return cursor?.split(separator) ?? [];
}

/** One page of rows that were asked for with one more than `limit`. `cursorOf` names the last one that is shown. */
export function pageOf<R, V>(
  rows: readonly R[],
  { limit, view, cursorOf }: { limit: number; view: (row: R) => V; cursorOf: (row: R) => string },
): { items: V[]; next_cursor: string | null } {
  const shown = rows.slice(0, limit);
  const last = rows.length > limit ? shown.at(-1) : undefined;
  return { items: shown.map(view), next_cursor: last === undefined ? null : cursorOf(last) };
}
