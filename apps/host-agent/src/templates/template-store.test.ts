import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { newId } from '@aviary/core';
import { FaultPoints } from '@aviary/service-kit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HostLayout } from '../layout.ts';
import { type SnapshotTemplate, TemplateStore } from './template-store.ts';

let layout: HostLayout;
beforeEach(async () => {
  layout = new HostLayout(await mkdtemp(path.join(tmpdir(), 'templates-')));
});
afterEach(() => rm(layout.dataDirectory, { recursive: true }));

async function openStore(fault?: string): Promise<TemplateStore> {
  const store = new TemplateStore({ layout, faults: new FaultPoints(fault) });
  await store.open();
  return store;
}

function newTemplate(): SnapshotTemplate {
  const [teamId, templateId] = [newId('team'), newId('template')];
  return { teamId, templateId, generationId: newId('generation'), operationId: newId('operation') };
}

describe('template store', () => {
  it('finds what was saved after a restart, and what keeps its generation', async () => {
    const template = newTemplate();
    await (await openStore()).save(template);
    const store = await openStore();
    expect(store.find(template)).toEqual(template);
    expect(store.gcRoots()).toEqual([{ generationId: template.generationId }]);
    await store.remove(template);
    expect(store.find(template)).toBeUndefined();
    await store.remove(template);
    expect((await openStore()).gcRoots()).toEqual([]);
  });

  it('refuses to start on a damaged template, whose generation it would not know', async () => {
    const template = newTemplate();
    await (await openStore()).save(template);
    await writeFile(layout.templateFile(template.teamId, template.templateId), '{');
    await expect(openStore()).rejects.toMatchObject({ code: 'integrity' });
  });

  it('sweeps what an interrupted save or removal left, and nothing that it does not know', async () => {
    const [kept, removed, foreign] = [newTemplate(), newTemplate(), newTemplate()];
    const store = await openStore('template-delete.before-rmdir');
    for (const template of [kept, removed, foreign]) await store.save(template);
    await expect(store.remove(removed)).rejects.toThrow('fault injected');
    expect(store.find(removed)).toBeUndefined();
    await rm(layout.templateFile(foreign.teamId, foreign.templateId));
    const at = ({ teamId, templateId }: SnapshotTemplate) => layout.template(teamId, templateId);
    await writeFile(path.join(at(foreign), 'disk.img'), 'not the store’s');
    for (const template of [kept, removed]) await writeFile(path.join(at(template), 'template.json.tmp-1-a'), '{');
    const again = await openStore();
    expect(again.find(kept)).toEqual(kept);
    expect(await readdir(at(kept))).toEqual(['template.json']);
    await expect(readdir(at(removed))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await readdir(at(foreign))).toEqual(['disk.img']);
  });
});
