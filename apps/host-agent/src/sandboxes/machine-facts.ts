import type { SandboxContext } from './sandbox-context.ts';

/** What a running sandbox's users may know about the machine under it. */
export function machineFacts({ identity, images }: SandboxContext): Record<string, string> {
  return {
    vmm: identity.vmm,
    vmm_version: identity.version,
    accelerator: identity.accelerator,
    kernel_version: images.kernel.version,
    toolbox: images.toolbox.id.slice(0, 12),
  };
}
