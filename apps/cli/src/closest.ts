/** The candidate that `text` was most likely meant to be; undefined when none is near. */
export function closest(text: string, candidates: readonly string[]): string | undefined {
  const limit = Math.max(1, Math.floor(text.length / 3));
  const near = candidates
    .map((candidate) => ({ candidate, distance: editDistance(text, candidate) }))
    .filter(({ candidate, distance }) => distance <= limit || (text.length >= 3 && candidate.startsWith(text)))
    .toSorted((a, b) => a.distance - b.distance);
  return near[0]?.candidate;
}

/** Characters inserted, deleted, replaced, or exchanged with their neighbour (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, char] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      const replaced = (last[j] ?? 0) + (char === other ? 0 : 1);
      const isExchange = i > 0 && j > 0 && char === b[j - 1] && a[i - 1] === other;
      const exchanged = isExchange ? (beforeLast[j - 1] ?? 0) + 1 : Number.POSITIVE_INFINITY;
      next.push(Math.min(replaced, exchanged, (last[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    beforeLast = last;
    last = next;
  }
  return last[b.length] ?? 0;
}
