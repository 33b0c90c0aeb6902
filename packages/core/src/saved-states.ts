/**
 * How a sandbox came to run: booted anew, restored from a boot snapshot or another sandbox's state, taken from the microVMs that stand
 * ready, resumed with its memory, or booted from its saved disk because its memory could not be restored.
 */
export const startPaths = ['cold_boot', 'restore', 'warm_pool', 'resume', 'cold_fallback'] as const;
export type StartPath = (typeof startPaths)[number];

/** True for one of {@link startPaths}: hosts of another version may tell others. */
export function isStartPath(text: string): text is StartPath {
  return (startPaths as readonly string[]).includes(text);
}

/** Why a generation was saved. */
export const generationCauses = [
  'pause',
  'auto_pause',
  'host_shutdown',
  'checkpoint',
  'fork',
  'template',
  'boot',
] as const;
export type GenerationCause = (typeof generationCauses)[number];

/** True for one of {@link generationCauses}. */
export function isGenerationCause(text: string): text is GenerationCause {
  return (generationCauses as readonly string[]).includes(text);
}
