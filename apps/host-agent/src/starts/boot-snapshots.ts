import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { asId, errorText, type GenerationId, must, newId } from '@aviary/core';
import { KeyedLock, writeDurableFile } from '@aviary/service-kit';
import type { GcRoot } from '../generations/needed-parts.ts';
import { rehearseRestore } from '../guest/warm-up.ts';
import { launchOf, type SandboxFacts } from '../registry/sandbox-record.ts';
import { beginGeneration, saveGeneration } from '../saving/save-generation.ts';
import { withStoppedGuest } from '../saving/stopped-guest.ts';
import type { BootSize } from '../templates/host-template.ts';
import { newInternalRecord } from './new-record.ts';
import { releaseSandbox } from './release-sandbox.ts';
import { restoreFacts } from './restore-fit.ts';
import type { StartDeps } from './start-deps.ts';
import { bootMicroVm, guestIdentity } from './start-micro-vm.ts';

/**
 * Saved states of freshly booted guests, one per image, size and machine: what creating a sandbox restores. Each is made the first
 * time it is asked for, by one boot however many ask.
 */
export class BootSnapshots {
  readonly #deps: StartDeps;
  readonly #ids = new Map<string, GenerationId>();
  readonly #locks = new KeyedLock<string>();

  constructor(deps: StartDeps) {
    this.#deps = deps;
  }

  /** Reads what is on disk. A damaged entry is dropped: it is made again when it is needed. */
  async open(): Promise<void> {
    const { layout, generations, logger } = this.#deps;
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

  gcRoots(): GcRoot[] {
    return [...this.#ids.values()].map((generationId) => ({ generationId }));
  }

  /** The snapshot for `size`, if it is there. */
  find(size: BootSize): GenerationId | undefined {
    return this.#ids.get(keyOf(this.#deps, size));
  }

  /** The snapshot for `size`, made now if need be; `isNew` when this call waited for a boot. */
  ensure(size: BootSize): Promise<{ generationId: GenerationId; isNew: boolean }> {
    const key = keyOf(this.#deps, size);
    const known = this.#ids.get(key);
    if (known) return Promise.resolve({ generationId: known, isNew: false });
    return this.#locks.run(key, async () => {
      const made = this.#ids.get(key);
      if (made) return { generationId: made, isNew: true };
      const generationId = await makeBootSnapshot(this.#deps, size, async (id) => {
        await writeDurableFile(this.#deps.layout.bootSnapshot(key), `${id}\n`);
        this.#ids.set(key, id);
      });
      return { generationId, isNew: true };
    });
  }

  /** Forgets a snapshot that turned out to be damaged: the next create makes a new one. */
  async drop(generationId: GenerationId): Promise<void> {
    const { layout } = this.#deps;
    for (const [key, id] of this.#ids) {
      if (id !== generationId) continue;
      this.#ids.delete(key);
      await rm(layout.bootSnapshot(key), { force: true });
    }
  }
}

/** Another machine, kernel or toolbox makes another key: its guests could not be restored here. */
function keyOf(deps: StartDeps, { template, vcpus, memoryMib, diskMib }: BootSize): string {
  const facts = JSON.stringify([template.id, vcpus, memoryMib, diskMib, restoreFacts(deps)]);
  return createHash('sha256').update(facts).digest('hex').slice(0, 40);
}

/** Boots an anonymous guest, has it rehearse its restore, saves it, and removes it. `onSaved` comes before the removal: until then the guest keeps its generation. */
async function makeBootSnapshot(
  deps: StartDeps,
  size: BootSize,
  onSaved: (id: GenerationId) => Promise<void>,
): Promise<GenerationId> {
  const { registry } = deps;
  const sandbox = registry.add(newInternalRecord(deps, size));
  try {
    await bootMicroVm(deps, sandbox, size.template.disk);
    const { record } = sandbox;
    const running = must(sandbox.running, 'it has just been booted');
    const run = must(launchOf(record).run, 'it has just been booted');
    await rehearseRestore(running.guest, rehearsedIdentity(record));
    await using draft = await beginGeneration(deps, record.sandboxId, run);
    const manifest = await withStoppedGuest(deps, { record, running }, () =>
      saveGeneration(deps, { record, run, running }, { draft, cause: 'boot', isEnding: true }),
    );
    const generationId = asId('generation', manifest.id);
    await onSaved(generationId);
    return generationId;
  } finally {
    await releaseSandbox(deps, sandbox);
  }
}

/** Another one than the guest booted with, so that it is really written. */
function rehearsedIdentity(record: SandboxFacts) {
  return guestIdentity({ ...record, sandboxId: newId('sandbox') });
}
