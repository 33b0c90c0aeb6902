import type { StartDeps } from './start-deps.ts';

/** What a running sandbox's users may know about the machine under it. */
export function machineFacts({ identity, images }: Pick<StartDeps, 'identity' | 'images'>): Record<string, string> {
  return {
    vmm: identity.vmm,
    vmm_version: identity.version,
    accelerator: identity.accelerator,
    kernel_version: images.kernel.version,
    toolbox: images.toolbox.id.slice(0, 12),
  };
}
