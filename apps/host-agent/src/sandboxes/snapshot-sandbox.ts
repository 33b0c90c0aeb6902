import { asId, type SandboxId, type TeamId, type TemplateId } from '@aviary/core';
import type { GenerationManifest } from '../generations/manifest.ts';
import { type CheckpointDeps, checkpoint } from './checkpoint-sandbox.ts';
import type { SandboxServices } from './sandbox-services.ts';

export interface SnapshotOptions {
  operationId: string;
  sandboxId: SandboxId;
  template: { teamId: TeamId; templateId: TemplateId };
}

/** Makes a template of a running sandbox (which goes on) or of a paused one's latest generation. Replaces an older template of that id. */
export function snapshotSandbox(
  deps: CheckpointDeps & Pick<SandboxServices, 'registry' | 'templates' | 'generations' | 'preparer'>,
  { operationId, sandboxId, template }: SnapshotOptions,
): Promise<GenerationManifest> {
  const { registry, templates, generations, faults, preparer } = deps;
  return registry.lock(sandboxId, async () => {
    const done = templates.find(template);
    const made = done?.operationId === operationId ? generations.get(done.generationId) : undefined;
    if (made) return made;
    const sandbox = registry.get(sandboxId);
    const { state, generationId } = sandbox.record;
    const saved = state === 'paused' && generationId ? generations.get(generationId) : undefined;
    const manifest =
      saved ?? (await checkpoint(deps, registry.getRunning(sandboxId), { operationId, cause: 'template' }));
    await faults.hit('snapshot.before-template');
    await templates.save({ ...template, generationId: asId('generation', manifest.id), operationId });
    preparer.prepare(asId('generation', manifest.id));
    return manifest;
  });
}

/**
 * Deletes a template. True when sandboxes still use its files, which go with the last of them. Files that cannot be removed now do
 * not make it fail: the next collection tries again.
 */
export async function deleteTemplate(
  {
    templates,
    generations,
    faults,
    garbage,
  }: Pick<SandboxServices, 'templates' | 'generations' | 'faults' | 'garbage'>,
  template: { teamId: TeamId; templateId: TemplateId },
): Promise<boolean> {
  const known = templates.find(template);
  if (!known) return false;
  await faults.hit('template-delete.before-remove');
  await templates.remove(template);
  await faults.hit('template-delete.before-collect');
  await garbage.collect();
  return generations.get(known.generationId) !== undefined;
}
