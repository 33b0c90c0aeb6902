import { access } from 'node:fs/promises';
import { type GenerationManifest, type RestoreFacts, restoreMismatches } from '../generations/manifest.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** What this host offers a restore. */
export function restoreFacts({ identity, images }: SandboxContext): RestoreFacts {
  const { vmm, version, machineType, cpuModel, accelerator } = identity;
  return {
    vmm,
    version,
    machineType,
    cpuModel,
    accelerator,
    kernelId: images.kernel.version,
    initramfsId: images.initramfs.id,
    toolboxId: images.toolbox.id,
  };
}

/**
 * Why a generation's memory cannot be restored here: one text per difference, empty when it can. A toolbox that was replaced since is
 * still offered while its drive is on the disk, so that a newer guest agent costs no sandbox its memory.
 */
export async function findRestoreMismatches(context: SandboxContext, manifest: GenerationManifest): Promise<string[]> {
  const facts = restoreFacts(context);
  const hasToolbox = await access(context.layout.toolbox(manifest.toolboxId)).then(
    () => true,
    () => false,
  );
  return restoreMismatches(manifest, hasToolbox ? { ...facts, toolboxId: manifest.toolboxId } : facts);
}
