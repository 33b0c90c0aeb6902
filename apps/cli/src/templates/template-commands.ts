import type { Command } from '../command.ts';
import { renderTable } from '../output.ts';
import { knownTemplates } from './known-templates.ts';

/** Commands about what sandboxes start from. */
export const templateCommands: readonly Command[] = [
  {
    name: 'template list',
    aliases: ['template ls', 'snapshot list', 'snapshot ls'],
    summary: 'List what sandboxes can start from: the built-in templates and your snapshots',
    examples: ['aviary template list', 'aviary sandbox create --template NAME-OF-A-SNAPSHOT'],
    async run({ client, output, signal }) {
      const found = await Array.fromAsync(client().snapshots.list({ signal }));
      output.result({ items: found }, () =>
        renderTable(
          ['NAME', 'STATUS', 'MEMORY', 'DISK', 'CREATED'],
          found.map((one) => [one.name, one.status, `${one.memory_mb} MiB`, `${one.disk_size_mb} MiB`, one.created_at]),
        ),
      );
    },
  },
  {
    name: 'template rm',
    aliases: ['snapshot rm'],
    summary: 'Delete snapshots; what runs from them goes on',
    args: [{ name: 'name', summary: "a snapshot's name", isRepeated: true, values: knownTemplates }],
    examples: ['aviary template rm after-install'],
    async run({ client, output, signal }, { args }) {
      for (const name of args) await client().snapshots.delete(name, { signal });
      output.result({ deleted: args }, () => args.map((name) => `${name} deleted`).join('\n'));
    },
  },
];
