/**
 * Every fault point, by the service that has it. A setting is for a whole platform, so each service knows all of them: one that none
 * has is refused.
 */
const faultPoints = {
  'host-agent': [
    'checkpoint.after-switch',
    'checkpoint.before-switch',
    'create.after-disk',
    'create.after-init',
    'create.after-running',
    'create.after-slot',
    'create.after-spawn',
    'create.before-running',
    'create.before-slot',
    'destroy.after-files',
    'destroy.after-journal',
    'destroy.after-release',
    'fork.before-restore',
    'gc.after-retire',
    'gc.before-remove',
    'gc.before-rename',
    'gc.before-retire',
    'generation.after-rename',
    'generation.before-fsync',
    'generation.before-manifest',
    'generation.before-rename',
    'merge.after-rename',
    'merge.before-manifest',
    'merge.before-rename',
    'merge.before-write',
    'pause.after-commit',
    'pause.after-freeze',
    'pause.after-journal',
    'pause.after-release',
    'pause.after-stop',
    'pause.before-disk',
    'pause.before-memory',
    'pause.before-state',
    'resume.after-init',
    'resume.after-journal',
    'resume.after-spawn',
    'resume.before-running',
    'snapshot.before-template',
    'template-delete.before-collect',
    'template-delete.before-remove',
    'template-delete.before-rmdir',
    'vmm.after-placement',
    'vmm.before-placement',
  ],
  images: ['images.before-descriptor'],
} as const satisfies Record<string, readonly string[]>;

/** Points that are there once per member of a set: a kind of operation, a step of the images' build. */
const repeatedPoints = [
  /^operation\.(before|after)-(create|destroy|pause|resume|fork|snapshot_create|snapshot_delete)$/,
  /^images\.[a-z0-9-]+\.before-(build|record)$/,
];

/** The name of a fault point. */
export type FaultName =
  | (typeof faultPoints)[keyof typeof faultPoints][number]
  | `operation.${'before' | 'after'}-${string}`
  | `images.${string}.before-${'build' | 'record'}`;

const names: ReadonlySet<string> = new Set(Object.values(faultPoints).flat());

/** True for a place that some service has. */
export function isFaultName(text: string): text is FaultName {
  return names.has(text) || repeatedPoints.some((pattern) => pattern.test(text));
}

/** The names that begin like `text`: what a misspelt one may have meant. */
export function similarFaultNames(text: string): string[] {
  const group = text.split('.', 1)[0] ?? '';
  return [...names].filter((name) => name.startsWith(`${group}.`));
}
