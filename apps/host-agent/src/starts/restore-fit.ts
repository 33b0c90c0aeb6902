import { access } from 'node:fs/promises';
import { type RestoreFacts, restoreMismatches, type SavedOn } from '../generations/manifest.ts';
import type { HostLayout } from '../layout.ts';
import type { StartDeps } from './start-deps.ts';

/** The parts of a host that decide what it can restore. */
export interface RestoringHost {
  layout: HostLayout;
  identity: Pick<StartDeps['identity'], 'vmm' | 'version' | 'machineType' | 'cpuModel' | 'accelerator'>;
  images: { kernel: { version: string }; initramfs: { id: string }; toolbox: { id: string } };
}

/** What this host offers a restore. */
export function restoreFacts({ identity, images }: Omit<RestoringHost, 'layout'>): RestoreFacts {
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
export async function findRestoreMismatches(host: RestoringHost, manifest: SavedOn): Promise<string[]> {
  const facts = restoreFacts(host);
  const hasToolbox = await access(host.layout.toolbox(manifest.toolboxId)).then(
    () => true,
    () => false,
  );
  return restoreMismatches(manifest, hasToolbox ? { ...facts, toolboxId: manifest.toolboxId } : facts);
}
