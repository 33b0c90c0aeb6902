/** As many names as are looked up to complete one: nobody chooses among more. */
const maxCandidates = 200;

/** The first of a list that may be long. */
export async function firstFew<T>(list: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of list) {
    found.push(one);
    if (found.length >= maxCandidates) break;
  }
  return found;
}
