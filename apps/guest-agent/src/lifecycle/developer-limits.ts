import { writeFileSync } from 'node:fs';
import { errorText } from '@aviary/core';
import { setOpenFilesLimit } from '@aviary/linux';

/**
 * As on a machine that one develops on. The kernel's own defaults follow its memory, and a microVM has little: tools that watch a
 * source tree run out at once. The soft limit is what one process gets unasked: some programs close every number below it.
 */
const openFiles = { soft: 65_536, hard: 1_048_576 };
const kernelSettings = {
  'fs/inotify/max_user_watches': 524_288,
  'fs/inotify/max_user_instances': 1_024,
};

/** Raises what all processes of the guest inherit from the agent or share. Each step on its own; returns what failed. */
export function raiseDeveloperLimits(): string[] {
  const steps: [string, () => void][] = [
    ['open files', () => setOpenFilesLimit(openFiles)],
    ...Object.entries(kernelSettings).map(([name, value]): [string, () => void] => [
      name,
      () => writeFileSync(`/proc/sys/${name}`, String(value)),
    ]),
  ];
  return steps.flatMap(([what, step]) => {
    try {
      step();
      return [];
    } catch (error) {
      return [`${what}: ${errorText(error)}`];
    }
  });
}
