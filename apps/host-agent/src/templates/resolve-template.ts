import { AppError, minimalTemplateId, platformTeamId, type TeamId, type TemplateId } from '@aviary/core';
import type { ImageSet } from '@aviary/images';
import type { HostTemplate } from './host-template.ts';
import type { TemplateStore } from './template-store.ts';

/** Finds a template on this host. Throws `not_found` when it is not here. */
export function resolveTemplate(
  { images, templates }: { images: ImageSet; templates: Pick<TemplateStore, 'find'> },
  template: { teamId: TeamId; templateId: TemplateId },
): HostTemplate {
  if (template.teamId === platformTeamId && template.templateId === minimalTemplateId) {
    const { rootfsPath, id } = images.minimal;
    return { kind: 'image', id, disk: { path: rootfsPath, format: 'raw' } };
  }
  const snapshot = templates.find(template);
  if (snapshot) return { kind: 'snapshot', generationId: snapshot.generationId };
  throw new AppError('not_found', 'this host does not have the template; create the sandbox on a host that has it', {
    details: { field: 'template' },
  });
}
