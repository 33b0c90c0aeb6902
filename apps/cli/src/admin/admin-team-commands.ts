import { AppError } from '@aviary/core';
import type { AdminTeam, Quota, SetQuota } from '@aviary/sdk';
import { requirePerson } from '../account/find-team.ts';
import type { Argument, Command, CommandContext, Flag, Flags } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { renderFields, renderTable } from '../output.ts';
import { searchFlag } from './admin-user-commands.ts';

const teamArg: Argument = { name: 'team', summary: "a team's id, slug or name" };

/** What a team may have at once, by its flag. */
const limits = {
  sandboxes: 'sandboxes',
  vcpus: 'vcpus',
  'memory-mb': 'memory_mb',
  'disk-size-mb': 'disk_size_mb',
  templates: 'templates',
} as const satisfies Record<string, keyof SetQuota>;

const limitFlag: Flag = { type: 'string', placeholder: 'N', summary: 'at most so much, or none for no limit' };

/** Commands about all teams of the platform, for its administrators. */
export const adminTeamCommands: readonly Command[] = [
  {
    name: 'admin team list',
    aliases: ['admin teams', 'admin team ls'],
    summary: 'List teams, newest first, also deleted ones',
    flags: { search: searchFlag },
    examples: ['aviary admin teams', 'aviary admin teams --search science'],
    async run(context, { flags }) {
      const { client, output, signal } = context;
      requirePerson(context);
      const search = flags.string('search');
      const items = await Array.fromAsync(
        client().admin.teams({ signal, ...(search === undefined ? {} : { search }) }),
      );
      output.result({ items }, () =>
        renderTable(
          ['SLUG', 'NAME', 'OWNER', 'MEMBERS', 'SANDBOXES', 'SINCE', 'DELETED', 'ID'],
          items.map((team) => [
            team.slug,
            team.name,
            team.owner_email ?? '-',
            String(team.member_count),
            String(team.sandbox_count),
            team.created_at,
            team.deleted_at ?? '-',
            team.id,
          ]),
        ),
      );
    },
  },
  {
    name: 'admin team show',
    summary: 'Show a team, what it may have and what it has',
    args: [teamArg],
    examples: ['aviary admin team show a1b2c3-d1e2f3'],
    async run(context, { args: [text = ''] }) {
      const team = await findAnyTeam(context, text);
      const { signal } = context;
      const quota = team.deleted_at === null ? await context.client().admin.quota(team.id, { signal }) : null;
      const shown = { ...team, limits: quota?.limits ?? null, used: quota?.used ?? null };
      context.output.result(shown, () => renderFields(shown));
    },
  },
  {
    name: 'admin team quota',
    summary: 'Set what a team may have; limits that are not named stay',
    args: [teamArg],
    flags: Object.fromEntries(Object.keys(limits).map((name) => [name, limitFlag])),
    examples: [
      'aviary admin team quota a1b2c3-d1e2f3 --sandboxes 20 --memory-mb 65536',
      'aviary admin team quota a1b2c3-d1e2f3 --vcpus none',
    ],
    async run(context, { args: [text = ''], flags }) {
      const changes = readLimits(flags);
      const { id } = await findAnyTeam(context, text);
      const { admin } = context.client();
      const { signal } = context;
      const known = await admin.quota(id, { signal });
      const changed = Object.keys(changes).length > 0;
      const quota = changed ? await admin.setQuota(id, { ...known.limits, ...changes }, { signal }) : known;
      context.output.result(quota, () => renderQuota(quota));
    },
  },
  {
    name: 'admin team delete',
    summary: 'Delete any team with all it has',
    args: [teamArg],
    examples: ['aviary admin team delete a1b2c3-d1e2f3'],
    async run(context, { args: [text = ''] }) {
      const team = await findAnyTeam(context, text);
      await context.client().admin.deleteTeam(team.id, { signal: context.signal });
      context.output.result({ deleted: team }, () => `${team.name} is deleted; its hosts are being cleared`);
    },
  },
  {
    name: 'admin sandbox list',
    aliases: ['admin sandboxes', 'admin sandbox ls'],
    summary: 'List the sandboxes of all teams that are not stopped',
    examples: ['aviary admin sandboxes'],
    async run(context) {
      const { client, output, signal } = context;
      requirePerson(context);
      const items = await Array.fromAsync(client().admin.sandboxes({ signal }));
      output.result({ items }, () =>
        renderTable(
          ['ID', 'TEAM', 'STATUS', 'TEMPLATE', 'VCPUS', 'MEMORY', 'CREATED'],
          items.map(({ team_name, sandbox }) => [
            sandbox.id,
            team_name,
            sandbox.status,
            sandbox.template,
            String(sandbox.vcpus),
            `${sandbox.memory_mb} MiB`,
            sandbox.created_at,
          ]),
        ),
      );
    },
  },
];

/** The team that `text` means; of several with one name the one that is not deleted. Throws `not_found`, or `invalid_request` when it may be several. */
async function findAnyTeam(context: CommandContext, text: string): Promise<AdminTeam> {
  const { client, signal } = context;
  requirePerson(context);
  const isId = text.startsWith('team-');
  const found: AdminTeam[] = [];
  for await (const team of client().admin.teams({ signal, ...(isId ? {} : { search: text }) })) {
    if (team.id === text || team.slug.replaceAll('-', '') === text.replaceAll('-', '')) return team;
    if (team.name === text) found.push(team);
  }
  const living = found.filter(({ deleted_at }) => deleted_at === null);
  const [only, ...others] = living.length > 0 ? living : found;
  if (!only) throw new AppError('not_found', `there is no team ${text}; 'aviary admin teams' lists all`);
  if (others.length === 0) return only;
  const slugs = [only, ...others].map(({ slug }) => slug).join(', ');
  throw new AppError('invalid_request', `several teams are called ${text}; name one by its slug: ${slugs}`);
}

function readLimits(flags: Flags): Partial<SetQuota> {
  const given = Object.entries(limits).flatMap(([flag, name]) => {
    const text = flags.string(flag);
    return text === undefined ? [] : [[name, readLimit(flag, text)]];
  });
  return Object.fromEntries(given);
}

function readLimit(flag: string, text: string): number | null {
  if (text === 'none') return null;
  const amount = Number(text);
  if (Number.isSafeInteger(amount) && amount >= 0 && text.trim() !== '') return amount;
  throw new UsageError(`--${flag} must be a whole number, or none, not ${JSON.stringify(text)}`);
}

function renderQuota({ limits: allowed, used }: Quota): string {
  return renderTable(
    ['', 'USED', 'LIMIT'],
    Object.values(limits).map((name) => [name, String(used[name]), String(allowed[name] ?? 'none')]),
  );
}
