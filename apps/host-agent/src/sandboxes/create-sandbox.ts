import { AppError, errorText, type SandboxId, sandboxLimits, type TeamId, type TemplateId } from '@aviary/core';
import { resolveTemplate } from '../templates/resolve-template.ts';
import { releaseSandbox } from './destroy-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Sandbox } from './sandbox-registry.ts';
import { bootMicroVm, newToken } from './start-micro-vm.ts';

export interface CreateSandboxOptions {
  operationId: string;
  sandboxId: SandboxId;
  teamId: TeamId;
  template: { teamId: TeamId; templateId: TemplateId };
  vcpus: number;
  memoryMib: number;
  diskMib: number;
  timeoutSec: number;
  defaultUser: string;
  envs: Record<string, string>;
}

/**
 * Creates a sandbox and resolves when it runs and its guest answers. Asking again with the same operation id answers the same
 * sandbox. On failure nothing is left behind: no record, no file, no process. Throws `invalid_request`, `not_found`
 * (template), `already_exists`, `no_capacity`, `disk_full`.
 */
export function createSandbox(context: SandboxContext, options: CreateSandboxOptions): Promise<Sandbox> {
  checkRanges(options);
  return context.registry.lock(options.sandboxId, async () => {
    const { registry, faults } = context;
    const existing = registry.find(options.sandboxId);
    if (existing) {
      if (existing.record.lastOperationId === options.operationId) return existing;
      throw new AppError('already_exists', 'a sandbox with this id is on this host already');
    }
    const template = await resolveTemplate(context, options.template);
    const now = registry.clock.now();
    const sandbox = registry.add({
      version: 1,
      sandboxId: options.sandboxId,
      teamId: options.teamId,
      template: options.template,
      vcpus: options.vcpus,
      memoryMib: options.memoryMib,
      diskMib: options.diskMib,
      timeoutSec: options.timeoutSec,
      defaultUser: options.defaultUser || 'user',
      envs: options.envs,
      state: 'starting',
      reason: '',
      intent: { operationId: options.operationId, kind: 'create' },
      hostToken: newToken(),
      accessToken: newToken(),
      metadata: {},
      createdAtMs: now,
      startedAtMs: 0,
      lastActiveAtMs: now,
      lastActivity: 'start',
    });
    try {
      await registry.save(sandbox);
      await faults.hit('create.before-slot');
      await bootMicroVm(context, sandbox, template.disk);
      await faults.hit('create.before-running');
      delete sandbox.record.intent;
      await registry.save(sandbox, {
        state: 'running',
        startPath: 'cold_boot',
        lastOperationId: options.operationId,
        startedAtMs: registry.clock.now(),
        lastActiveAtMs: registry.clock.now(),
        metadata: machineFacts(context),
      });
      await faults.hit('create.after-running');
    } catch (error) {
      await releaseSandbox(context, sandbox).catch((releaseError: unknown) => {
        context.logger.error({ sandboxId: options.sandboxId, error: errorText(releaseError) }, 'cannot undo a failed create; the next start of the agent will');
      });
      throw error;
    }
    await registry.events.push('sandbox.started', options.sandboxId, { start_path: 'cold_boot' });
    return sandbox;
  });
}

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

function checkRanges(options: CreateSandboxOptions): void {
  const { vcpus, memoryMib, diskMib } = options;
  const ranges = [
    ['vcpus', vcpus, sandboxLimits.vcpus],
    ['memory_mib', memoryMib, sandboxLimits.memoryMib],
    ['disk_mib', diskMib, sandboxLimits.diskMib],
  ] as const;
  for (const [field, value, { min, max }] of ranges) {
    if (!Number.isInteger(value) || value < min || value > max) {
      throw new AppError('invalid_request', `${field} must be a whole number from ${min} to ${max}`, { details: { field } });
    }
  }
}
