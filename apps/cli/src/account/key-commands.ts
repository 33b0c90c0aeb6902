import type { CreateApiKey } from '@aviary/sdk';
import type { Command } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { renderTable } from '../output.ts';

const scopes = ['sandboxes', 'templates', 'read'] as const;

/** Commands about the team's API keys: for people who have logged in. */
export const keyCommands: readonly Command[] = [
  {
    name: 'key create',
    summary: 'Make an API key for your team; it is shown this once',
    args: [{ name: 'name', summary: 'what the key is for' }],
    flags: {
      scope: {
        type: 'string',
        placeholder: 'SCOPE',
        isMultiple: true,
        values: scopes,
        summary: `${scopes.join(', ')}; may be repeated; default: the first two`,
      },
      expires: { type: 'string', placeholder: 'TIME', summary: 'when it ends, e.g. 2030-01-31; default: never' },
    },
    examples: [
      "aviary key create 'nightly job' --scope sandboxes",
      'aviary key create reporting --scope read --expires 2030-01-31',
    ],
    async run({ client, output, signal }, { args: [name = ''], flags }) {
      const wanted = flags.strings('scope').map(readScope);
      const expires = flags.string('expires');
      const request: CreateApiKey = {
        name,
        ...(wanted.length === 0 ? {} : { scopes: wanted }),
        ...(expires === undefined ? {} : { expires_at: readTime(expires) }),
      };
      const made = await client().apiKeys.create(request, { signal });
      output.result(made, () => `${made.id}\nexport AVIARY_API_KEY=${made.key}`);
      output.note('the key is not shown again');
    },
  },
  {
    name: 'key list',
    aliases: ['key ls'],
    summary: "List your team's API keys",
    examples: ['aviary key list'],
    async run({ client, output, signal }) {
      const items = await Array.fromAsync(client().apiKeys.list({ signal }));
      output.result({ items }, () =>
        renderTable(
          ['ID', 'NAME', 'KEY', 'FOR', 'BY', 'LAST USED', 'EXPIRES'],
          items.map((key) => [
            key.id,
            key.name,
            `${key.prefix}…`,
            key.scopes.join(','),
            key.created_by?.email ?? '-',
            key.last_used_at ?? 'never',
            key.expires_at ?? 'never',
          ]),
        ),
      );
    },
  },
  {
    name: 'key revoke',
    aliases: ['key rm'],
    summary: 'Revoke API keys at once; what they have open is closed',
    args: [{ name: 'key', summary: "a key's id", isRepeated: true }],
    examples: ['aviary key revoke key-0190c2d7-1111-7222-8333-444455556666'],
    async run({ client, output, signal }, { args }) {
      for (const id of args) await client().apiKeys.revoke(id, { signal });
      output.result({ revoked: args }, () => args.map((id) => `${id} revoked`).join('\n'));
    },
  },
];

function readScope(text: string): (typeof scopes)[number] {
  const scope = scopes.find((each) => each === text);
  if (!scope) throw new UsageError(`--scope must be one of ${scopes.join(', ')}, not ${JSON.stringify(text)}`);
  return scope;
}

function readTime(text: string): string {
  const time = new Date(text);
  if (Number.isNaN(time.getTime()))
    throw new UsageError(`--expires must be a date such as 2030-01-31, not ${JSON.stringify(text)}`);
  return time.toISOString();
}
