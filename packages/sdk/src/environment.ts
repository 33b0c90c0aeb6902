/** A variable of the environment, where there is one: browsers have none. Empty is as unset. */
export function readEnvironment(name: 'AVIARY_API_URL' | 'AVIARY_API_KEY'): string | undefined {
  return globalThis.process?.env?.[name] || undefined;
}
