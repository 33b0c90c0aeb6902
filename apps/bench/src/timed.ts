/** How long `work` takes, in milliseconds. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

/** `count` times `take`, one after the other. */
export async function repeat<T>(count: number, take: (index: number) => Promise<T>): Promise<T[]> {
  const taken: T[] = [];
  for (let index = 0; index < count; index++) taken.push(await take(index));
  return taken;
}

/** `count` times `take`, all at once. */
export function atOnce<T>(count: number, take: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => take(index)));
}

/**
 * `count` times the floor and the product, in turns: a machine that grows slower or faster meanwhile does so for both. Each answers its time
 * in milliseconds.
 */
export async function inTurns(
  count: number,
  { floor, product }: { floor: () => Promise<number>; product: () => Promise<number> },
): Promise<{ floor: number[]; product: number[] }> {
  const taken = { floor: [] as number[], product: [] as number[] };
  for (let i = 0; i < count; i++) {
    taken.floor.push(await floor());
    taken.product.push(await product());
  }
  return taken;
}
