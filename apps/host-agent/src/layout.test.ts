import { nilUuid } from '@aviary/core';
import { describe, expect, it } from 'vitest';
import { HostLayout } from './layout.ts';

const layout = new HostLayout('/srv/aviary/');
const id = '0190c2d4-0000-7000-8000-000000000001';

describe('host layout', () => {
  it('keeps every path under the data directory', () => {
    expect(layout.template(nilUuid, 'minimal')).toBe(`/srv/aviary/images/teams/${nilUuid}/minimal`);
    expect(layout.generation(id)).toBe(`/srv/aviary/host/generations/${id}`);
    expect(layout.merged(id, nilUuid)).toBe(`/srv/aviary/host/merged/${id}.${nilUuid}`);
    expect(layout.sandboxLayer(id, 'top-1')).toBe(`/srv/aviary/host/sandboxes/${id}/disk/top-1.layer`);
  });

  it.each(['..', '../x', 'a/b', '', '.hidden', 'a\0b', 'x'.repeat(65)])('refuses the name %j', (name) => {
    expect(() => layout.template(nilUuid, name)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    expect(() => layout.warmEntry(name)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    expect(() => layout.sandboxLayer(id, name)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });

  it.each(['..', '', `${id}/..`, id.toUpperCase(), `gen-${id}`])('refuses the id %j', (bad) => {
    for (const build of [layout.sandbox, layout.generation, layout.generationDraft, layout.labels])
      expect(() => build.call(layout, bad)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    expect(() => layout.merged(id, bad)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });

  it('refuses a relative data directory', () => {
    expect(() => new HostLayout('data')).toThrow(/absolute/);
  });
});
