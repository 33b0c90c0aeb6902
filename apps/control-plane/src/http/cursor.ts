import { formatId, type Id, type IdKind, parseId } from '@aviary/core';

/** Rows of a page whose query does not say: what the contract gives as the default. */
const defaultLimit = 50;
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

/** What a list ordered by id alone is asked for: at most `limit` rows, those that follow `after`, the last id of the page before. */
export interface IdRange<K extends IdKind> {
  limit: number;
  after?: Id<K>;
}

/** One page of a list that is ordered by the id of its rows alone, whichever way: reads one row more than it shows. */
export async function pageById<K extends IdKind, R, V>(
  { limit = defaultLimit, cursor }: { limit?: number; cursor?: string },
  {
    kind,
    list,
    idOf,
    view,
  }: { kind: K; list: (range: IdRange<K>) => Promise<R[]>; idOf: (row: R) => Id<K>; view: (row: R) => V },
): Promise<{ items: V[]; next_cursor: string | null }> {
  const [after] = splitCursor(cursor);
  const rows = await list({
    limit: limit + 1,
    ...(after === undefined ? {} : { after: parseId(kind, after, 'cursor') }),
  });
  return pageOf(rows, { limit, view, cursorOf: (row) => joinCursor(formatId(kind, idOf(row))) });
}
