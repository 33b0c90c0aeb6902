import path from 'node:path';
import { AppError, asId, parseSafeName } from '@aviary/core';

/**
 * Every path that the host agent uses, built here and nowhere else. Each id and name is checked again before it becomes part of
 * a path, whoever checked it before. Throws `invalid_request` for one that is not safe.
 *
 *   images/teams/{team}/{template}/template.json   which generation or disk image a template is
 *   host/lock, host/claim.json                     the one agent of the directory, and its part of the machine
 *   host/journal/{sandbox}.json, host/events/          what the agent must not forget
 *   host/sandboxes/{id}/{run/,disk/,memory.img}
 *   host/generations/{generation}/                 immutable; flat, because forks and templates share ancestors
 *   host/merged/{generation}.{storage}/            a generation's memory in fewer pieces; immutable as well
 *   host/labels/{sandbox}.json                     names, pins and the current generation; the mutable part
 *   host/warm/{entry}/, host/boot-snapshots/{key}/
 *   host/vmm-root/                                 empty; VMMs' roots are mounted there, seen by nobody else
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
  /** Held by the one agent of this directory. */
  get lockFile(): string {
    return path.join(this.hostDirectory, 'lock');
  }
  /** What of this machine's names and network slots is this directory's. */
  get claimFile(): string {
    return path.join(this.hostDirectory, 'claim.json');
  }
  get credentialsFile(): string {
    return path.join(this.hostDirectory, 'credentials.json');
  }
  /** One record per sandbox, outside its own directory: it must outlive what it describes. */
  get journalDirectory(): string {
    return path.join(this.hostDirectory, 'journal');
  }
  get eventsDirectory(): string {
    return path.join(this.hostDirectory, 'events');
  }
  get sandboxesDirectory(): string {
    return path.join(this.hostDirectory, 'sandboxes');
  }
  /** Where VMMs' roots are put together, in namespaces of their own; it stays empty. */
  get vmmRootDirectory(): string {
    return path.join(this.hostDirectory, 'vmm-root');
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

  /** A toolbox drive by its content's hash. Older ones stay while saved states may refer to them. */
  toolbox(id: string): string {
    if (!/^[0-9a-f]{64}$/.test(id)) throw new AppError('integrity', 'the toolbox id is not a SHA-256');
    return path.join(this.imagesDirectory, `toolbox-${id}.sqsh`);
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
  /** Sockets and console output; belongs to the VMM's uid. */
  sandboxRun(sandboxId: string): string {
    return path.join(this.sandbox(sandboxId), 'run');
  }
  sandboxDisk(sandboxId: string): string {
    return path.join(this.sandbox(sandboxId), 'disk');
  }
  /** The writable layer that a sandbox runs on; `layer` differs from one resume to the next. */
  sandboxLayer(sandboxId: string, layer: string): string {
    return path.join(this.sandboxDisk(sandboxId), `${parseSafeName(layer, 'layer')}.layer`);
  }
  /** RAM of a booted (not restored) microVM. */
  sandboxMemory(sandboxId: string): string {
    return path.join(this.sandbox(sandboxId), 'memory.img');
  }

  generation(generationId: string): string {
    return path.join(this.generationsDirectory, asId('generation', generationId));
  }
  /** Which generation's part a file is; undefined for any other file. */
  generationPart(file: string): { kind: 'generation'; generationId: string; part: string } | undefined {
    const relative = path.relative(this.generationsDirectory, file).split(path.sep);
    const [generationId, part] = relative;
    if (relative.length !== 2 || !generationId || !part || generationId === '..') return undefined;
    return { kind: 'generation', generationId, part };
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
