import { auditActions } from '@aviary/core';
import type { AuditLogEntry, AuditQuery } from '@aviary/sdk';
import type { Command, CommandContext, Flag, Flags } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { renderTable } from '../output.ts';
import { requirePerson } from './find-team.ts';

const actions = Object.keys(auditActions);
const resources = [...new Set(actions.map((action) => action.split('.', 1)[0] ?? ''))];
const flags: Readonly<Record<string, Flag>> = {
  action: {
    type: 'string',
    isMultiple: true,
    placeholder: 'ACTION',
    summary: 'as in sandbox.create; may be repeated',
    values: actions,
  },
  resource: {
    type: 'string',
    isMultiple: true,
    placeholder: 'KIND',
    summary: 'as in sandbox; may be repeated',
    values: resources,
  },
  actor: { type: 'string', placeholder: 'ID', summary: "a person's, a key's or a host's id, or system" },
  from: { type: 'string', placeholder: 'TIME', summary: 'from then on, e.g. 2026-01-31 or 2026-01-31T12:00:00Z' },
  to: { type: 'string', placeholder: 'TIME', summary: 'before then' },
  limit: { type: 'integer', min: 1, summary: 'at most so many entries; default: 100, all with --ndjson' },
  ndjson: { type: 'boolean', summary: 'one entry a line as JSON, as they come: to keep them elsewhere' },
};
const defaultLimit = 100;
const pageSize = 200;

/** Commands that read who did what. */
export const auditCommands: readonly Command[] = [
  {
    name: 'audit',
    summary: 'Show who did what in your team, newest first',
    details: 'Members see what is for the whole team, admins and the owner all.',
    flags,
    examples: ['aviary audit --resource sandbox', 'aviary audit --from 2026-01-01 --ndjson > audit.ndjson'],
    async run(context, { flags }) {
      requirePerson(context);
      const { audit } = context.client();
      await showAudit(context, flags, (query) => audit.list(query, { signal: context.signal }));
    },
  },
  {
    name: 'admin audit',
    summary: "Show the platform's own log: accounts, log-ins, administrators",
    flags,
    examples: ['aviary admin audit --action user.log_in_failed'],
    async run(context, { flags }) {
      requirePerson(context);
      const { admin } = context.client();
      await showAudit(context, flags, (query) => admin.audit(query, { signal: context.signal }));
    },
  },
];

async function showAudit(
  { output }: CommandContext,
  flags: Flags,
  list: (query: AuditQuery) => AsyncIterable<AuditLogEntry>,
): Promise<void> {
  const isStreamed = flags.boolean('ndjson');
  const limit = flags.integer('limit') ?? (isStreamed ? Number.POSITIVE_INFINITY : defaultLimit);
  const entries = list({ ...readQuery(flags), pageSize: Math.min(limit, pageSize) });
  const shown: AuditLogEntry[] = [];
  let count = 0;
  for await (const entry of entries) {
    if (isStreamed) output.result(entry, () => JSON.stringify(entry));
    else shown.push(entry);
    if (++count >= limit) break;
  }
  if (!isStreamed) output.result({ items: shown }, () => renderEntries(shown));
}

function readQuery(flags: Flags): AuditQuery {
  const actor = flags.string('actor');
  return {
    actions: flags.strings('action'),
    resourceTypes: flags.strings('resource'),
    ...(actor === undefined ? {} : { actor }),
    ...readTime(flags, 'from'),
    ...readTime(flags, 'to'),
  };
}

function readTime(flags: Flags, name: 'from' | 'to'): { from?: string; to?: string } {
  const text = flags.string(name);
  if (text === undefined) return {};
  const time = new Date(text);
  if (!Number.isNaN(time.getTime())) return { [name]: time.toISOString() };
  throw new UsageError(`--${name} must be a time such as 2026-01-31, not ${JSON.stringify(text)}`);
}

function renderEntries(entries: readonly AuditLogEntry[]): string {
  if (entries.length === 0) return 'no such entries';
  return renderTable(
    ['TIME', 'WHO', 'ACTION', 'WHAT', ''],
    entries.map(({ created_at, actor, action, resource, metadata }) => [
      created_at,
      actor.name || actor.type,
      action,
      resource.id ?? '-',
      Object.keys(metadata).length === 0 ? '' : JSON.stringify(metadata),
    ]),
  );
}
