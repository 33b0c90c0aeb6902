import path from 'node:path';
import { AppError, asId, parseSafeName } from '@aviary/core';

/**
 * Every path that the host agent uses, built here and nowhere else. Each id and name is checked again before it becomes part of
 * a path, whoever checked it before. Throws `invalid_request` for one that is not safe.
 *
 *   images/teams/{team}/{template}/template.json   which generation or disk image a template is
 *   host/sandboxes/{id}/{journal.json,run/,disk/,memory.img}
 *   host/generations/{generation}/                 immutable; flat, because forks and templates share ancestors
 *   host/merged/{generation}.{storage}/            a generation's memory in fewer pieces; immutable as well
 *   host/labels/{sandbox}.json                     names, pins and the current generation; the mutable part
 *   host/warm/{entry}/, host/boot-snapshots/{key}/
 */
export class HostLayout {
  readonly dataDirectory: string;

  constructor(dataDirectory: string) {
    if (!path.isAbsolute(dataDirectory))
      throw new AppError('invalid_request', `the data directory must be an absolute path, not ${dataDirectory}`, {
        details: { field: 'AVIARY_DATA_DIR' },
      });
    this.dataDirectory = path.normalize(dataDirectory);
  }

  get imagesDirectory(): string {
    return path.join(this.dataDirectory, 'images');
  }
  get hostDirectory(): string {
    return path.join(this.dataDirectory, 'host');
  }
  get lockFile(): string {
    return path.join(this.hostDirectory, 'lock');
  }
  get credentialsFile(): string {
    return path.join(this.hostDirectory, 'credentials.json');
  }
  get sandboxesDirectory(): string {
    return path.join(this.hostDirectory, 'sandboxes');
  }
  get generationsDirectory(): string {
    return path.join(this.hostDirectory, 'generations');
  }
  get mergedDirectory(): string {
    return path.join(this.hostDirectory, 'merged');
  }
  get labelsDirectory(): string {
    return path.join(this.hostDirectory, 'labels');
  }
  get warmPoolDirectory(): string {
    return path.join(this.hostDirectory, 'warm');
  }
  get bootSnapshotsDirectory(): string {
    return path.join(this.hostDirectory, 'boot-snapshots');
  }

  /** A template's directory. */
  template(teamId: string, name: string): string {
    return path.join(this.imagesDirectory, 'teams', asId('team', teamId), parseSafeName(name, 'template'));
  }
  templateFile(teamId: string, name: string): string {
    return path.join(this.template(teamId, name), 'template.json');
  }

  sandbox(sandboxId: string): string {
    return path.join(this.sandboxesDirectory, asId('sandbox', sandboxId));
  }
  sandboxJournal(sandboxId: string): string {
    return path.join(this.sandbox(sandboxId), 'journal.json');
  }
  /** Sockets and console output; belongs to the VMM's uid. */
  sandboxRun(sandboxId: string): string {
    return path.join(this.sandbox(sandboxId), 'run');
  }
  sandboxDisk(sandboxId: string): string {
    return path.join(this.sandbox(sandboxId), 'disk');
  }
  /** The writable layer that a sandbox runs on; `layer` differs from one resume to the next. */
  sandboxLayer(sandboxId: string, layer: string): string {
    return path.join(this.sandboxDisk(sandboxId), `${parseSafeName(layer, 'layer')}.qcow2`);
  }
  /** RAM of a booted (not restored) microVM. */
  sandboxMemory(sandboxId: string): string {
    return path.join(this.sandbox(sandboxId), 'memory.img');
  }

  generation(generationId: string): string {
    return path.join(this.generationsDirectory, asId('generation', generationId));
  }
  /** Where a generation is built. The name starts with a dot, so it can never be taken for a generation. */
  generationDraft(generationId: string): string {
    return path.join(this.generationsDirectory, `.tmp-${asId('generation', generationId)}`);
  }
  merged(generationId: string, storageId: string): string {
    return path.join(this.mergedDirectory, mergedName(generationId, storageId));
  }
  mergedDraft(generationId: string, storageId: string): string {
    return path.join(this.mergedDirectory, `.tmp-${mergedName(generationId, storageId)}`);
  }
  labels(sandboxId: string): string {
    return path.join(this.labelsDirectory, `${asId('sandbox', sandboxId)}.json`);
  }

  warmEntry(entry: string): string {
    return path.join(this.warmPoolDirectory, parseSafeName(entry, 'warm pool entry'));
  }
  bootSnapshot(key: string): string {
    return path.join(this.bootSnapshotsDirectory, parseSafeName(key, 'boot snapshot'));
  }
}

function mergedName(generationId: string, storageId: string): string {
  return `${asId('generation', generationId)}.${asId('generation', storageId)}`;
}
