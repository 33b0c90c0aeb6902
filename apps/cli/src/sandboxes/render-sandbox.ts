import { nameLabel } from '@aviary/core';
import type { Sandbox } from '@aviary/sdk';
import { renderFields, renderTable } from '../output.ts';

/** Sandboxes, one a line. */
export function renderSandboxes(sandboxes: readonly Sandbox[]): string {
  if (sandboxes.length === 0) return "no sandboxes; make one with 'aviary sandbox create'";
  return renderTable(
    ['ID', 'NAME', 'STATUS', 'TEMPLATE', 'VCPUS', 'MEMORY', 'CREATED'],
    sandboxes.map(({ id, metadata, status, template, vcpus, memory_mb, created_at }) => [
      id,
      metadata?.[nameLabel] ?? '',
      status,
      template,
      String(vcpus),
      `${memory_mb} MiB`,
      created_at,
    ]),
  );
}

/** One sandbox, one field a line. */
export function renderSandbox(sandbox: Sandbox): string {
  return renderFields(sandbox);
}
