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
