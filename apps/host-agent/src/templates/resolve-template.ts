import { AppError, minimalTemplateId, platformTeamId, type TeamId, type TemplateId } from '@aviary/core';
import type { SandboxContext } from '../sandboxes/sandbox-context.ts';
import type { HostTemplate } from './host-template.ts';

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
