import { mkdir, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { AppError, asId, type GenerationId, type TeamId, type TemplateId } from '@aviary/core';
import { type FaultPoints, nodeErrorCode, syncDirectory, writeDurableFile } from '@aviary/service-kit';
import type { GcRoot } from '../generations/needed-parts.ts';
import type { HostLayout } from '../layout.ts';

/** A template made from a sandbox, on this host: the generation that it starts from. */
export interface SnapshotTemplate {
  teamId: TeamId;
  templateId: TemplateId;
  generationId: GenerationId;
  /** The command that made it. */
  operationId: string;
}

/** This host's snapshot templates: one small durable file each, naming a generation. */
export class TemplateStore {
  readonly #layout: HostLayout;
  readonly #faults: FaultPoints;
  readonly #templates = new Map<string, SnapshotTemplate>();

  constructor({ layout, faults }: { layout: HostLayout; faults: FaultPoints }) {
    this.#layout = layout;
    this.#faults = faults;
  }

  /**
   * Reads what is on disk, and removes what a crash left of templates that were being made or deleted. Throws `integrity` for a
   * damaged file: ignoring it would let its generation be collected.
   */
  async open(): Promise<void> {
    const teams = path.join(this.#layout.imagesDirectory, 'teams');
    await mkdir(teams, { recursive: true, mode: 0o711 });
    for (const teamId of await readdir(teams)) {
      for (const templateId of await readdir(path.join(teams, teamId))) {
        const file = this.#layout.templateFile(teamId, templateId);
        const text = await readFile(file, 'utf8').catch((error: unknown) => {
          if (nodeErrorCode(error) === 'ENOENT') return undefined;
          throw error;
        });
        await sweep(path.dirname(file), { isForgotten: text === undefined });
        if (text === undefined) continue;
        const template = parse(text, file);
        this.#templates.set(key(template), template);
      }
    }
  }

  find(id: { teamId: TeamId; templateId: TemplateId }): SnapshotTemplate | undefined {
    return this.#templates.get(key(id));
  }

  /** What the templates keep alive. */
  gcRoots(): GcRoot[] {
    return [...this.#templates.values()].map(({ generationId }) => ({ generationId }));
  }

  async save(template: SnapshotTemplate): Promise<void> {
    const file = this.#layout.templateFile(template.teamId, template.templateId);
    await mkdir(path.dirname(file), { recursive: true, mode: 0o711 });
    await writeDurableFile(file, JSON.stringify(template));
    this.#templates.set(key(template), template);
  }

  /** Forgets a template. No error when it is not here. Its generation goes when nothing else needs it. */
  async remove(id: { teamId: TeamId; templateId: TemplateId }): Promise<void> {
    const file = this.#layout.templateFile(id.teamId, id.templateId);
    const directory = path.dirname(file);
    await rm(file, { force: true });
    await syncDirectory(directory).catch((error: unknown) => {
      if (nodeErrorCode(error) !== 'ENOENT') throw error;
    });
    // Forgotten from here on: what is left of the directory after a crash is removed at the next start.
    this.#templates.delete(key(id));
    await this.#faults.hit('template-delete.before-rmdir');
    await removeIfEmpty(directory);
  }
}

/** Removes what a crash left of a template: unfinished files, and the directory of one that is not there. */
async function sweep(directory: string, { isForgotten }: { isForgotten: boolean }): Promise<void> {
  const names = await readdir(directory);
  for (const name of names.filter((name) => name.includes('.tmp-')))
    await rm(path.join(directory, name), { force: true });
  if (isForgotten) await removeIfEmpty(directory);
}

/** A directory that holds anything is left to whoever put that there. */
async function removeIfEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch((error: unknown) => {
    if (!['ENOENT', 'ENOTEMPTY'].includes(nodeErrorCode(error) ?? '')) throw error;
  });
}

function key({ teamId, templateId }: { teamId: TeamId; templateId: TemplateId }): string {
  return `${teamId}/${templateId}`;
}

function parse(text: string, file: string): SnapshotTemplate {
  try {
    const value = JSON.parse(text) as Record<string, unknown>;
    const id = (name: string) => String(value[name]);
    return {
      teamId: asId('team', id('teamId')),
      templateId: asId('template', id('templateId')),
      generationId: asId('generation', id('generationId')),
      operationId: id('operationId'),
    };
  } catch (error) {
    throw new AppError(
      'integrity',
      `${file} is damaged; restore it from a backup, or remove it to give up the template`,
      { cause: error },
    );
  }
}
