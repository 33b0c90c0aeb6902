import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError, type SandboxId } from '@aviary/core';
import { syncDirectory, writeDurableFile } from '@aviary/service-kit';
import * as v from 'valibot';
import { migrateRecord } from './migrate-record.ts';
import { SandboxRecord } from './sandbox-record.ts';

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
        const record = parseRecord(await readFile(file, 'utf8'));
        if (`${record.sandboxId}.json` !== name)
          throw new AppError('integrity', `the record is that of sandbox ${record.sandboxId}`);
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

/** Reads a journal file, an older format's too. Throws `integrity` naming the field that does not fit the record's state. */
export function parseRecord(text: string): SandboxRecord {
  let value: unknown;
  try {
    value = migrateRecord(JSON.parse(text));
  } catch (cause) {
    throw new AppError('integrity', 'the record is not JSON', { cause });
  }
  const checked = v.safeParse(SandboxRecord, value);
  // As it was written, with whatever a later version may have added to it.
  if (checked.success) return value as SandboxRecord;
  const faults = checked.issues.map((issue) => `${v.getDotPath(issue) ?? 'all of it'}: ${issue.message}`);
  throw new AppError('integrity', `not a sandbox record: ${faults.slice(0, 3).join('; ')}`);
}
