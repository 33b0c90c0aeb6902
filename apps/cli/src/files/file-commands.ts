import { openAsBlob } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { AppError, errorText } from '@aviary/core';
import type { FileEntry } from '@aviary/sdk';
import type { Command, Flag } from '../command.ts';
import { renderTable } from '../output.ts';
import { sandboxIdArg } from '../sandboxes/sandbox-commands.ts';

const userFlag = {
  user: { type: 'string', short: 'u', placeholder: 'NAME', summary: 'user in the guest' },
} as const satisfies Record<string, Flag>;

function withUser(user: string | undefined): { user?: string } {
  return user === undefined ? {} : { user };
}

/** Commands about files in a sandbox. `-` stands for standard input or output. */
export const fileCommands: readonly Command[] = [
  {
    name: 'files put',
    summary: 'Copy a file into a sandbox',
    args: [
      sandboxIdArg,
      { name: 'source', summary: 'a local file, or - for standard input' },
      { name: 'target', summary: 'where to write it in the guest' },
    ],
    flags: userFlag,
    examples: ['aviary files put sb-… script.py /tmp/script.py', 'date | aviary files put sb-… - /tmp/now'],
    async run({ client, output, signal }, { args: [id = '', source = '', target = ''], flags }) {
      const data = source === '-' ? new Blob([new Uint8Array(await buffer(process.stdin))]) : await openLocal(source);
      const place = target.endsWith('/') && source !== '-' ? `${target}${path.basename(source)}` : target;
      await client().files.write(id, { path: place, data }, { signal, ...withUser(flags.string('user')) });
      output.result({ path: place, bytes: data.size }, () => `${place} ${data.size} bytes`);
    },
  },
  {
    name: 'files get',
    summary: 'Copy a file out of a sandbox',
    args: [
      sandboxIdArg,
      { name: 'source', summary: 'the file in the guest' },
      { name: 'target', summary: 'where to write it; standard output when absent or -', isOptional: true },
    ],
    flags: userFlag,
    examples: ['aviary files get sb-… /etc/os-release', 'aviary files get sb-… /tmp/result.csv result.csv'],
    async run({ client, output, signal }, { args: [id = '', source = '', target = '-'], flags }) {
      const data = await client().files.read(id, source, { signal, ...withUser(flags.string('user')) });
      if (target !== '-') {
        await writeFile(target, data).catch((error: unknown) => {
          throw new AppError('internal', `cannot write ${target}: ${errorText(error)}`, { cause: error });
        });
        output.result({ path: target, bytes: data.length }, () => `${target} ${data.length} bytes`);
      } else if (output.isJson) {
        output.result({ path: source, content_base64: Buffer.from(data).toString('base64') }, () => '');
      } else output.raw('stdout', data);
    },
  },
  {
    name: 'files ls',
    summary: 'List a directory of a sandbox',
    args: [sandboxIdArg, { name: 'path', summary: 'the directory in the guest' }],
    flags: { depth: { type: 'integer', min: 1, summary: 'levels to show (default 1)' }, ...userFlag },
    examples: ['aviary files ls sb-… /etc'],
    async run({ client, output, signal }, { args: [id = '', directory = ''], flags }) {
      const depth = flags.integer('depth') ?? 1;
      const entries = await client().files.list(id, directory, { depth, signal, ...withUser(flags.string('user')) });
      output.result({ items: entries }, () => renderEntries(entries));
    },
  },
];

async function openLocal(file: string): Promise<Blob> {
  try {
    return await openAsBlob(file);
  } catch (error) {
    throw new AppError('invalid_request', `cannot read ${file}: ${errorText(error)}`, { cause: error });
  }
}

function renderEntries(entries: readonly FileEntry[]): string {
  return renderTable(
    ['MODE', 'OWNER', 'SIZE', 'PATH'],
    entries.map(({ permissions, owner, size, path, type }) => [
      permissions,
      owner,
      String(size),
      type === 'directory' ? `${path}/` : path,
    ]),
  );
}
