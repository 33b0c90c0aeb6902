import { nameLabel } from '@aviary/core';
import type { Sandbox } from '@aviary/sdk';
import { renderTable } from '../output.ts';

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

/** One sandbox, one field a line; fields without a value are left out. */
export function renderSandbox(sandbox: Sandbox): string {
  const rows = Object.entries(sandbox)
    .filter(([, value]) => value !== null && value !== undefined && value !== '')
    .map(([name, value]) => [`${name}:`, typeof value === 'object' ? JSON.stringify(value) : String(value)]);
  return renderTable(rows[0] ?? [], rows.slice(1));
}
