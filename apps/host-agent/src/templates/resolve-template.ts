import { AppError, minimalTemplateId, platformTeamId, type TeamId, type TemplateId } from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { SandboxContext } from '../sandboxes/sandbox-context.ts';

export interface HostTemplate {
  disk: DiskLayer;
}

/** Finds what a sandbox starts from. Throws `not_found` when this host does not have the template. */
export async function resolveTemplate(context: SandboxContext, template: { teamId: TeamId; templateId: TemplateId }): Promise<HostTemplate> {
  if (template.teamId === platformTeamId && template.templateId === minimalTemplateId) {
    return { disk: { path: context.images.minimal.rootfsPath, format: 'raw' } };
  }
  throw new AppError('not_found', 'this host does not have the template; create the sandbox on a host that has it', {
    details: { field: 'template' },
  });
}
