import {
  AppError,
  type GenerationId,
  minimalTemplateId,
  platformTeamId,
  type TeamId,
  type TemplateId,
} from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { SandboxContext } from '../sandboxes/sandbox-context.ts';

/** What a sandbox starts from: a disk image that boots, or a saved state with its sizes. */
export type HostTemplate =
  | { kind: 'image'; id: string; disk: DiskLayer }
  | { kind: 'snapshot'; generationId: GenerationId };

/** Finds a template on this host. Throws `not_found` when it is not here. */
export function resolveTemplate(
  context: SandboxContext,
  template: { teamId: TeamId; templateId: TemplateId },
): HostTemplate {
  if (template.teamId === platformTeamId && template.templateId === minimalTemplateId) {
    const { rootfsPath, id } = context.images.minimal;
    return { kind: 'image', id, disk: { path: rootfsPath, format: 'raw' } };
  }
  const snapshot = context.templates.find(template);
  if (snapshot) return { kind: 'snapshot', generationId: snapshot.generationId };
  throw new AppError('not_found', 'this host does not have the template; create the sandbox on a host that has it', {
    details: { field: 'template' },
  });
}
