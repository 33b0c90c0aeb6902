import path from 'node:path';
import { AppError } from '@aviary/core';
import { AviaryError, type FileEntry } from '@aviary/sdk';
import type { Command, CommandContext, Flag, Flags } from '../command.ts';
import { renderTable } from '../output.ts';
import { sandboxIdArg } from '../sandboxes/find-sandbox.ts';
import { type CopyContext, counted, renderCount } from './copy-context.ts';
import { getDirectory, getFile, placeFor } from './get-files.ts';
import { lookAt, readAll, readLocal } from './local-file.ts';
import { putDirectory } from './put-directory.ts';

const userFlag = {
  user: { type: 'string', short: 'u', placeholder: 'NAME', summary: 'with the rights of this user of the guest' },
} as const satisfies Record<string, Flag>;

const recursiveFlag = (summary: string) =>
  ({ recursive: { type: 'boolean', short: 'r', summary } }) as const satisfies Record<string, Flag>;

function copyContext({ client, output, signal }: CommandContext, sandboxId: string, flags: Flags): CopyContext {
  const user = flags.string('user');
  return { client: client(), sandboxId, output, options: { signal, ...(user === undefined ? {} : { user }) } };
}

/** Entries of a listing that are printed together, their columns aligned. */
const rowsAtOnce = 1_000;

/** Commands about files in a sandbox. `-` stands for standard input or output. */
export const fileCommands: readonly Command[] = [
  {
    name: 'files put',
    summary: 'Copy a file, or a directory, into a sandbox',
    details:
      'A target that ends with / is a directory to copy into. A directory keeps its links and which files may be executed.',
    args: [
      sandboxIdArg,
      { name: 'source', summary: 'a local file, or - for standard input', values: 'paths' },
      { name: 'target', summary: 'where to write it in the guest' },
    ],
    flags: { ...recursiveFlag('a directory with all in it'), ...userFlag },
    examples: [
      'aviary files put sb-… script.py /tmp/script.py',
      'date | aviary files put sb-… - /tmp/now',
      'aviary files put -r sb-… src /home/user/src',
    ],
    async run(context, { args: [id = '', source = '', target = ''], flags }) {
      const copy = copyContext(context, id, flags);
      const isInto = target.endsWith('/') && source !== '-';
      const place = isInto ? path.posix.join(target, path.basename(path.resolve(source))) : target;
      if (flags.boolean('recursive') && source !== '-' && (await lookAt(source)).isDirectory()) {
        const count = await putDirectory(copy, source, place);
        const written = await absolutePlace(copy, place);
        context.output.result({ path: written, ...count }, () => renderCount(written, count));
        return;
      }
      const data = source === '-' ? await readAll('standard input', process.stdin) : await readLocal(source);
      await copy.client.files.write(id, { path: place, data }, copy.options);
      const written = await absolutePlace(copy, place);
      context.output.result({ path: written, bytes: data.size }, () => `${written} ${counted(data.size, 'byte')}`);
    },
  },
  {
    name: 'files get',
    summary: 'Copy a file, or a directory, out of a sandbox',
    details: 'A target that is a directory, or ends with /, is copied into. Nothing is written outside of the target.',
    args: [
      sandboxIdArg,
      { name: 'source', summary: 'the file in the guest' },
      {
        name: 'target',
        summary: 'where to write it; standard output when absent or -, the current directory for a directory',
        isOptional: true,
        values: 'paths',
      },
    ],
    flags: { ...recursiveFlag('a directory with all in it'), ...userFlag },
    examples: [
      'aviary files get sb-… /etc/os-release',
      'aviary files get sb-… /tmp/result.csv results/',
      'aviary files get -r sb-… /home/user/out',
    ],
    async run(context, { args: [id = '', source = '', target], flags }) {
      const { output } = context;
      const copy = copyContext(context, id, flags);
      if (flags.boolean('recursive')) {
        const place = await placeFor(source, target ?? '.');
        const count = await getDirectory(copy, source, place);
        output.result({ path: place, ...count }, () => renderCount(place, count));
      } else if (target !== undefined && target !== '-') {
        const place = await placeFor(source, target);
        const bytes = await orNameRecursion(copy, source, () => getFile(copy, source, place));
        output.result({ path: place, bytes }, () => `${place} ${counted(bytes, 'byte')}`);
      } else {
        const data = await orNameRecursion(copy, source, () => copy.client.files.read(id, source, copy.options));
        if (output.isJson) {
          output.result({ path: source, content_base64: Buffer.from(data).toString('base64') }, () => '');
        } else output.raw('stdout', data);
      }
    },
  },
  {
    name: 'files ls',
    summary: 'List a directory of a sandbox',
    args: [sandboxIdArg, { name: 'path', summary: 'the directory in the guest' }],
    flags: { depth: { type: 'integer', min: 1, summary: 'levels to show (default 1)' }, ...userFlag },
    examples: ['aviary files ls sb-… /etc'],
    async run(context, { args: [id = '', directory = ''], flags }) {
      const { client, options, output } = copyContext(context, id, flags);
      const entries = client.files.entries(id, directory, { ...options, depth: flags.integer('depth') ?? 1 });
      let rows: FileEntry[] = [];
      let isFirst = true;
      for await (const entry of entries) {
        rows.push(entry);
        if (output.isJson || rows.length < rowsAtOnce) continue;
        output.result(rows, () => renderEntries(rows, isFirst));
        isFirst = false;
        rows = [];
      }
      if (isFirst || rows.length > 0) output.result({ items: rows }, () => renderEntries(rows, isFirst));
    },
  },
  {
    name: 'files mkdir',
    summary: 'Make a directory in a sandbox, and those above it',
    args: [sandboxIdArg, { name: 'path', summary: 'the directory in the guest' }],
    flags: userFlag,
    examples: ['aviary files mkdir sb-… /home/user/data'],
    async run(context, { args: [id = '', directory = ''], flags }) {
      const { client, options, output } = copyContext(context, id, flags);
      const entry = await client.files.mkdir(id, directory, options);
      output.result(entry, () => entry.path);
    },
  },
  {
    name: 'files rm',
    summary: 'Remove a file, or a directory, of a sandbox',
    args: [sandboxIdArg, { name: 'path', summary: 'the file in the guest' }],
    flags: { ...recursiveFlag('also a directory, with all in it'), ...userFlag },
    examples: ['aviary files rm sb-… /tmp/now', 'aviary files rm -r sb-… /home/user/data'],
    async run(context, { args: [id = '', target = ''], flags }) {
      const { client, options, output } = copyContext(context, id, flags);
      if (!flags.boolean('recursive') && (await isDirectory({ client, options }, id, target))) {
        throw new AppError(
          'invalid_request',
          `cannot remove ${target}: it is a directory; -r removes it with all in it`,
        );
      }
      await client.files.remove(id, target, options);
      output.result({ path: target }, () => `removed ${target}`);
    },
  },
];

/** Where the guest has what was written to `place`, which may be relative to a home there: beside it, everything has its whole path. */
async function absolutePlace({ client, sandboxId, options }: CopyContext, place: string): Promise<string> {
  if (path.posix.isAbsolute(place)) return place;
  try {
    const beside = client.files.entries(sandboxId, path.posix.dirname(place), { ...options, pageSize: 1 });
    const first = await beside.next();
    return first.done ? place : path.posix.join(path.posix.dirname(first.value.path), path.posix.basename(place));
  } catch (error) {
    // It is written; only where, in full, cannot be told.
    if (error instanceof AviaryError) return place;
    throw error;
  }
}

/** Does `read`; when the guest refuses because `source` is a directory, says how to copy one. */
async function orNameRecursion<T>(
  { client, sandboxId, options }: CopyContext,
  source: string,
  read: () => Promise<T>,
): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const mayBe = error instanceof AviaryError && error.code === 'invalid_request';
    if (!mayBe || !(await isDirectory({ client, options }, sandboxId, source).catch(() => false))) throw error;
    throw new AppError('invalid_request', `cannot copy ${source}: it is a directory; -r copies it with all in it`);
  }
}

/** Throws `not_found` when nothing is there. */
async function isDirectory(
  { client, options }: Pick<CopyContext, 'client' | 'options'>,
  id: string,
  target: string,
): Promise<boolean> {
  try {
    await client.files.entries(id, target, { ...options, pageSize: 1 }).next();
    return true;
  } catch (error) {
    if (error instanceof AviaryError && error.code === 'invalid_request') return false;
    throw error;
  }
}

function renderEntries(entries: readonly FileEntry[], isFirst: boolean): string {
  const table = renderTable(
    ['MODE', 'OWNER', 'SIZE', 'PATH'],
    entries.map(({ permissions, owner, size, path: name, type, symlink_target: target }) => [
      // As `ls` writes it: Go's words for a mode, which the guest speaks, begin a link's with L.
      permissions.replace(/^L/, 'l'),
      owner,
      String(size),
      target !== null ? `${name} -> ${target}` : type === 'directory' ? `${name}/` : name,
    ]),
  );
  return isFirst ? table : table.slice(table.indexOf('\n') + 1);
}
