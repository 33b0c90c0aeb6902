import { AppError, type GenerationId, must, type SandboxId } from '@aviary/core';
import type { GenerationNode } from '../generations/sandbox-generations.ts';
import type { SandboxServices } from './sandbox-services.ts';

type Deps = Pick<SandboxServices, 'registry' | 'generations'>;

/** A sandbox's kept generations, oldest first. Throws `not_found` for a sandbox that is not here. */
export function listGenerations({ registry, generations }: Deps, sandboxId: SandboxId): GenerationNode[] {
  registry.get(sandboxId);
  const flatten = (nodes: readonly GenerationNode[]): GenerationNode[] =>
    nodes.flatMap((node) => [node, ...flatten(node.children)]);
  return flatten(generations.list(sandboxId)).toSorted((a, b) => a.manifest.number - b.manifest.number);
}

/** Names or pins a generation of this sandbox. Throws `not_found`, `already_exists` (name), `invalid_request`. */
export async function updateGeneration(
  deps: Deps,
  {
    sandboxId,
    generationId,
    ...change
  }: { sandboxId: SandboxId; generationId: GenerationId; name?: string; isPinned?: boolean },
): Promise<GenerationNode> {
  const find = () => listGenerations(deps, sandboxId).find(({ manifest }) => manifest.id === generationId);
  if (!find()) throw new AppError('not_found', 'this sandbox has no such generation');
  await deps.generations.label(generationId, change);
  return must(find(), 'labelling removes nothing');
}
