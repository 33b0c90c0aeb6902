import { rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { type FaultPoints, syncDirectory, writeDurableFile } from '@aviary/service-kit';
import type { HostLayout } from '../layout.ts';
import { ignoreMissing, retiredFile } from './generation-index.ts';
import type { GenerationManifest, MergedManifest } from './manifest.ts';
import type { VerifiedParts } from './verified-parts.ts';

export interface GenerationRemoverDeps {
  layout: HostLayout;
  faults: FaultPoints;
  verified: VerifiedParts;
}

/** Removes files of the store so that a crash at any step leaves something that the next start finishes. */
export class GenerationRemover {
  readonly #deps: GenerationRemoverDeps;

  constructor(deps: GenerationRemoverDeps) {
    this.#deps = deps;
  }

  async removeGeneration({ id, parts }: GenerationManifest): Promise<void> {
    const { layout } = this.#deps;
    await this.#removeDirectory(layout.generation(id), layout.generationDraft(id), Object.keys(parts));
  }

  /** Removes all parts but those that others still read. The generation cannot be opened after this. */
  async retire(manifest: GenerationManifest, keep: readonly string[]): Promise<void> {
    const directory = this.#deps.layout.generation(manifest.id);
    await this.#deps.faults.hit('gc.before-retire');
    await writeDurableFile(path.join(directory, retiredFile), `${JSON.stringify({ keep })}\n`);
    await this.#deps.faults.hit('gc.after-retire');
    for (const part of Object.keys(manifest.parts)) {
      if (keep.includes(part)) continue;
      this.#deps.verified.forget(path.join(directory, part));
      await rm(path.join(directory, part), { force: true });
    }
  }

  async removeMerged({ generationId, storageId, parts }: MergedManifest): Promise<void> {
    const { layout } = this.#deps;
    const home = layout.merged(generationId, storageId);
    await this.#removeDirectory(home, layout.mergedDraft(generationId, storageId), Object.keys(parts));
  }

  /** Removes a directory at one instant, by renaming it to a draft; a crash leaves the draft for the next start. */
  async #removeDirectory(home: string, draft: string, parts: readonly string[]): Promise<void> {
    for (const part of parts) this.#deps.verified.forget(path.join(home, part));
    await this.#deps.faults.hit('gc.before-rename');
    // An attempt that failed after this may have moved it already.
    await rename(home, draft).catch(ignoreMissing);
    await syncDirectory(path.dirname(home));
    await this.#deps.faults.hit('gc.before-remove');
    await rm(draft, { recursive: true, force: true });
  }
}
