/** Returns `value`, or throws when it is null or undefined: for facts that the code around it guarantees. `why` names that guarantee. */
export function must<T>(value: T | null | undefined, why: string): T {
  if (value === null || value === undefined) throw new Error(`invariant broken: ${why}`);
  return value;
}

/** Ends a `switch` over a closed union: fails to compile when a case is missing. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${String(value)}`);
}
