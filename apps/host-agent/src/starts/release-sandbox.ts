import { rm } from 'node:fs/promises';
import { launchOf } from '../registry/sandbox-record.ts';
import type { Sandbox } from '../registry/sandbox-registry.ts';
import { type ReleaseDeps, releaseMicroVm } from './release-micro-vm.ts';
import type { StartDeps } from './start-deps.ts';

/** Releases the microVM, removes the files, then forgets the record: in this order, so that a crash in between is finished later. */
export async function releaseSandbox(
  deps: ReleaseDeps & Pick<StartDeps, 'registry' | 'generations' | 'faults'>,
  sandbox: Sandbox,
): Promise<void> {
  const { registry, layout, generations, faults } = deps;
  const { sandboxId } = sandbox.record;
  const { runDirectoryId } = launchOf(sandbox.record);
  await releaseMicroVm(deps, sandbox);
  await faults.hit('destroy.after-release');
  await rm(layout.sandbox(runDirectoryId), { recursive: true, force: true });
  await faults.hit('destroy.after-files');
  await generations.forgetSandbox(sandboxId);
  await registry.remove(sandboxId);
}
