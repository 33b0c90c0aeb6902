import { asId, type SandboxId } from '@aviary/core';
import type { HostAgent, Template } from '@aviary/proto/hostagent';
import type { ServiceImpl } from '@connectrpc/connect';
import { collectPhases } from '../phases.ts';
import type { Sandbox } from '../registry/sandbox-registry.ts';
import { createSandbox } from '../sandboxes/create-sandbox.ts';
import { destroySandbox } from '../sandboxes/destroy-sandbox.ts';
import { forkSandbox } from '../sandboxes/fork-sandbox.ts';
import { listGenerations, updateGeneration } from '../sandboxes/list-generations.ts';
import { pauseAll } from '../sandboxes/pause-all.ts';
import { pauseSandboxFreeLater } from '../sandboxes/pause-sandbox.ts';
import { resumeSandbox } from '../sandboxes/resume-sandbox.ts';
import { toSandboxInfo } from '../sandboxes/sandbox-info.ts';
import type { SandboxServices } from '../sandboxes/sandbox-services.ts';
import { deleteTemplate, snapshotSandbox } from '../sandboxes/snapshot-sandbox.ts';
import { toGenerationInfo } from './generation-info.ts';

type Routes = Pick<
  ServiceImpl<typeof HostAgent>,
  | 'createSandbox'
  | 'destroySandbox'
  | 'pauseSandbox'
  | 'resumeSandbox'
  | 'forkSandbox'
  | 'createSnapshot'
  | 'deleteSnapshot'
  | 'listGenerations'
  | 'updateGeneration'
  | 'listSandboxes'
  | 'pingSandbox'
  | 'setTimeout'
  | 'pauseAll'
>;

const idOf = (text: string): SandboxId => asId('sandbox', text);

function templateOf(template: Template | undefined) {
  return { teamId: asId('team', template?.teamId ?? ''), templateId: asId('template', template?.templateId ?? '') };
}

/** Commands on whole sandboxes: each parses, calls, and maps. A caller that leaves cancels nothing. */
export function sandboxRoutes(services: SandboxServices): Routes {
  const { registry } = services;
  const view = (sandbox: Sandbox) => toSandboxInfo(sandbox, registry.events.sequence);
  return {
    async createSandbox(request) {
      const { result: sandbox, phases } = await collectPhases(() =>
        createSandbox(services, {
          operationId: request.operationId,
          sandboxId: idOf(request.sandboxId),
          teamId: asId('team', request.teamId),
          template: templateOf(request.template),
          vcpus: request.vcpus,
          memoryMib: request.memoryMib,
          diskMib: request.diskMib,
          timeoutSec: request.timeoutSec,
          defaultUser: request.defaultUser,
          envs: request.envs,
        }),
      );
      return { sandbox: view(sandbox), phases };
    },
    async destroySandbox(request) {
      await destroySandbox(services, { sandboxId: idOf(request.sandboxId), operationId: request.operationId });
      return {};
    },
    async pauseSandbox(request) {
      const { result: sandbox, phases } = await collectPhases(() =>
        pauseSandboxFreeLater(services, {
          sandboxId: idOf(request.sandboxId),
          operationId: request.operationId,
          cause: 'pause',
          isForced: request.force,
        }),
      );
      const node = listGenerations(services, sandbox.record.sandboxId).find(
        ({ manifest }) => manifest.id === sandbox.record.generationId,
      );
      return { sandbox: view(sandbox), phases, ...(node ? { generation: toGenerationInfo(node) } : {}) };
    },
    async resumeSandbox(request) {
      const { result: sandbox, phases } = await collectPhases(() =>
        resumeSandbox(services, {
          sandboxId: idOf(request.sandboxId),
          operationId: request.operationId,
          timeoutSec: request.timeoutSec,
          ...(request.generationId === '' ? {} : { generationId: asId('generation', request.generationId) }),
          isCold: request.cold,
        }),
      );
      return { sandbox: view(sandbox), phases };
    },
    async forkSandbox(request) {
      const { result, phases } = await collectPhases(() =>
        forkSandbox(services, {
          operationId: request.operationId,
          sandboxId: idOf(request.sandboxId),
          targets: request.targets.map(({ sandboxId }) => idOf(sandboxId)),
          timeoutSec: request.timeoutSec,
        }),
      );
      const { results, generation } = result;
      return {
        results: results.map(({ sandboxId, sandbox, error, phases: own = [] }) => ({
          sandboxId,
          phases: own,
          error: error?.reason ?? '',
          errorCode: error?.code ?? '',
          ...(sandbox ? { sandbox: view(sandbox) } : {}),
        })),
        generation: toGenerationInfo({ manifest: generation, isPinned: false, isCurrent: false }),
        phases,
      };
    },
    async createSnapshot(request) {
      const manifest = await snapshotSandbox(services, {
        operationId: request.operationId,
        sandboxId: idOf(request.sandboxId),
        template: templateOf(request.template),
      });
      const { memoryBytes, diskBytes } = toGenerationInfo({ manifest, isPinned: false, isCurrent: false });
      const { vcpus, memoryMib, diskMib } = manifest;
      return { sizeBytes: memoryBytes + diskBytes, vcpus, memoryMib, diskMib };
    },
    async deleteSnapshot(request) {
      return { deferred: await deleteTemplate(services, templateOf(request.template)) };
    },
    listGenerations(request) {
      return { generations: listGenerations(services, idOf(request.sandboxId)).map(toGenerationInfo) };
    },
    async updateGeneration(request) {
      const node = await updateGeneration(services, {
        sandboxId: idOf(request.sandboxId),
        generationId: asId('generation', request.generationId),
        ...(request.name === undefined ? {} : { name: request.name }),
        ...(request.pinned === undefined ? {} : { isPinned: request.pinned }),
      });
      return { generation: toGenerationInfo(node) };
    },
    listSandboxes() {
      return {
        sandboxes: registry
          .list()
          .filter(({ record }) => !record.isInternal)
          .map(view),
        hostTimeUnixMs: BigInt(registry.clock.now()),
      };
    },
    pingSandbox(request) {
      const sandbox = registry.getRunning(idOf(request.sandboxId));
      registry.touch(sandbox, 'ping');
      return { sandbox: view(sandbox) };
    },
    async setTimeout(request) {
      const sandboxId = idOf(request.sandboxId);
      const sandbox = registry.get(sandboxId);
      // Before the lock: a pause that waits for it looks at this once more.
      registry.touch(sandbox, 'ping');
      await registry.lock(sandboxId, () => registry.amend(registry.get(sandboxId), { timeoutSec: request.timeoutSec }));
      return {};
    },
    async pauseAll(request) {
      const { paused, failures } = await pauseAll(services, request.operationId);
      return { pausedSandboxIds: paused, failures };
    },
  };
}
