import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { asId, type SandboxId } from '@aviary/core';
import { syncDirectory, writeDurableFile } from '@aviary/service-kit';
import type { SandboxRecord } from './sandbox-record.ts';

/** One durable file per sandbox. A record that was written is there after a crash, whole; one that was removed is gone. */
export class SandboxJournal {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#directory)) {
      if (name.includes('.tmp-')) await rm(path.join(this.#directory, name), { force: true });
    }
  }

  async write(record: SandboxRecord): Promise<void> {
    await writeDurableFile(this.#file(record.sandboxId), JSON.stringify(record));
  }

  async remove(sandboxId: SandboxId): Promise<void> {
    await rm(this.#file(sandboxId), { force: true });
    await syncDirectory(this.#directory);
  }

  /** All records. A file that is not one is reported by `onBroken` and left where it is, for a person to look at. */
  async readAll(onBroken: (file: string, error: unknown) => void): Promise<SandboxRecord[]> {
    const records: SandboxRecord[] = [];
    for (const name of await readdir(this.#directory)) {
      if (!name.endsWith('.json')) continue;
      const file = path.join(this.#directory, name);
      try {
        const record = JSON.parse(await readFile(file, 'utf8')) as SandboxRecord;
        asId('sandbox', record.sandboxId);
        if (record.version !== 1 || `${record.sandboxId}.json` !== name)
          throw new Error('not a sandbox record of version 1');
        record.run ??= 1;
        records.push(record);
      } catch (error) {
        onBroken(file, error);
      }
    }
    return records;
  }

  #file(sandboxId: SandboxId): string {
    return path.join(this.#directory, `${sandboxId}.json`);
  }
}
