import type { Command } from '../command.ts';
import { renderTable } from '../output.ts';
import { sandboxIdArg } from './find-sandbox.ts';
import { showSettled, waitOptions } from './sandbox-commands.ts';
import { waitFlags } from './sandbox-flags.ts';
import { showTime } from './show-time.ts';

/** Commands about the saved states of a sandbox. */
export const savedStateCommands: readonly Command[] = [
  {
    name: 'sandbox snapshot',
    summary: 'Keep the present state of a sandbox under a name',
    args: [sandboxIdArg, { name: 'name', summary: "the snapshot's name" }],
    flags: { overwrite: { type: 'boolean', summary: 'replace a snapshot of that name' }, ...waitFlags },
    examples: ['aviary sandbox snapshot sb-… after-install'],
    async run(context, { args: [id = '', name = ''], flags }) {
      const request = { sandbox_id: id, name, ...(flags.boolean('overwrite') ? { overwrite: true } : {}) };
      const options = waitOptions(context, flags);
      const snapshot = await showTime(context, 'snapshot', () => context.client().snapshots.create(request, options));
      context.output.result(snapshot, () => name);
    },
  },
  {
    name: 'sandbox generations',
    summary: 'List the saved states of a sandbox',
    args: [sandboxIdArg],
    examples: ['aviary sandbox generations sb-…'],
    async run({ client, output, signal }, { args: [id = ''] }) {
      const generations = await client().generations.list(id, { signal });
      output.result({ items: generations }, () =>
        renderTable(
          ['ID', 'NAME', 'CAUSE', 'PINNED', 'CURRENT', 'CREATED'],
          generations.map((one) => [
            one.id,
            one.name ?? '',
            one.cause,
            one.pinned ? 'yes' : '',
            one.current ? 'yes' : '',
            one.created_at,
          ]),
        ),
      );
    },
  },
  {
    name: 'sandbox rewind',
    summary: 'Put a sandbox back to one of its saved states',
    args: [sandboxIdArg, { name: 'generation', summary: "a generation's id or name" }],
    flags: waitFlags,
    examples: ['aviary sandbox rewind sb-… gen-…'],
    async run(context, { args: [id = '', generation = ''], flags }) {
      const options = waitOptions(context, flags);
      const sandbox = await showTime(context, 'rewind', () =>
        context.client().sandboxes.rewind(id, generation, options),
      );
      showSettled(context, sandbox, { expected: 'running', waitSec: options.waitSec });
    },
  },
];
