import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { asId, errorText, type GenerationId, newId } from '@aviary/core';
import { KeyedLock, writeDurableFile } from '@aviary/service-kit';
import type { Keeper } from '../generations/needed-parts.ts';
import { rehearseRestore } from '../guest/warm-up.ts';
import { releaseSandbox } from '../sandboxes/destroy-sandbox.ts';
import { newInternalRecord } from '../sandboxes/new-record.ts';
import { restoreFacts } from '../sandboxes/restore-fit.ts';
import type { BootSnapshotBook, SandboxContext } from '../sandboxes/sandbox-context.ts';
import type { SandboxRecord } from '../sandboxes/sandbox-record.ts';
import type { RunningParts, Sandbox } from '../sandboxes/sandbox-registry.ts';
import { beginGeneration, saveGeneration } from '../sandboxes/save-generation.ts';
import { bootMicroVm, guestIdentity } from '../sandboxes/start-micro-vm.ts';
import { withStoppedGuest } from '../sandboxes/stopped-guest.ts';
import type { BootSize } from './host-template.ts';

/**
 * Saved states of freshly booted guests, one per image, size and machine: what creating a sandbox restores. Each is made the first
 * time it is asked for, by one boot however many ask.
 */
export class BootSnapshots implements BootSnapshotBook {
  readonly #ids = new Map<string, GenerationId>();
  readonly #locks = new KeyedLock<string>();

  /** Reads what is on disk. A damaged entry is dropped: it is made again when it is needed. */
  async open({ layout, generations, logger }: SandboxContext): Promise<void> {
    await mkdir(layout.bootSnapshotsDirectory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(layout.bootSnapshotsDirectory)) {
      const file = layout.bootSnapshot(name);
      try {
        const id = asId('generation', (await readFile(file, 'utf8')).trim());
        if (generations.get(id)) this.#ids.set(name, id);
        else await rm(file, { force: true });
      } catch (error) {
        logger.warn({ file, error: errorText(error) }, 'dropping a damaged boot snapshot entry');
        await rm(file, { recursive: true, force: true });
      }
    }
  }

  keepers(): Keeper[] {
    return [...this.#ids.values()].map((generationId) => ({ generationId }));
  }

  /** The snapshot for `size`, if it is there. */
  find(context: SandboxContext, size: BootSize): GenerationId | undefined {
    return this.#ids.get(keyOf(context, size));
  }

  /** The snapshot for `size`, made now if need be; `isNew` when this call waited for a boot. */
  ensure(context: SandboxContext, size: BootSize): Promise<{ generationId: GenerationId; isNew: boolean }> {
    const key = keyOf(context, size);
    const known = this.#ids.get(key);
    if (known) return Promise.resolve({ generationId: known, isNew: false });
    return this.#locks.run(key, async () => {
      const made = this.#ids.get(key);
      if (made) return { generationId: made, isNew: true };
      const generationId = await makeBootSnapshot(context, size, async (id) => {
        await writeDurableFile(context.layout.bootSnapshot(key), `${id}\n`);
        this.#ids.set(key, id);
      });
      return { generationId, isNew: true };
    });
  }

  /** Forgets a snapshot that turned out to be damaged: the next create makes a new one. */
  async drop({ layout }: SandboxContext, generationId: GenerationId): Promise<void> {
    for (const [key, id] of this.#ids) {
      if (id !== generationId) continue;
      this.#ids.delete(key);
      await rm(layout.bootSnapshot(key), { force: true });
    }
  }
}

/** Another machine, kernel or toolbox makes another key: its guests could not be restored here. */
function keyOf(context: SandboxContext, { template, vcpus, memoryMib, diskMib }: BootSize): string {
  const facts = JSON.stringify([template.id, vcpus, memoryMib, diskMib, restoreFacts(context)]);
  return createHash('sha256').update(facts).digest('hex').slice(0, 40);
}

/** Boots an anonymous guest, has it rehearse its restore, saves it, and removes it. `onSaved` comes before the removal: until then the guest keeps its generation. */
async function makeBootSnapshot(
  context: SandboxContext,
  size: BootSize,
  onSaved: (id: GenerationId) => Promise<void>,
): Promise<GenerationId> {
  const { registry } = context;
  const sandbox = registry.add(newInternalRecord(context, size));
  try {
    await bootMicroVm(context, sandbox, size.template.disk);
    const running = sandbox as Sandbox & { running: RunningParts };
    await rehearseRestore(running.running.guest, rehearsedIdentity(sandbox.record));
    await using draft = await beginGeneration(context, sandbox);
    const manifest = await withStoppedGuest(context, running, () =>
      saveGeneration(context, sandbox, { draft, cause: 'boot', isEnding: true }),
    );
    const generationId = asId('generation', manifest.id);
    await onSaved(generationId);
    return generationId;
  } finally {
    await releaseSandbox(context, sandbox);
  }
}

/** Another one than the guest booted with, so that it is really written. */
function rehearsedIdentity(record: SandboxRecord) {
  return guestIdentity({ ...record, sandboxId: newId('sandbox') });
}
