import { once } from 'node:events';
import { Readable } from 'node:stream';
import { type FileEntry, fileRoutes } from '@aviary/api-contract';
import { AppError, fileLimits, parseId, type SandboxId, type TeamId } from '@aviary/core';
import type { FileEntry as GuestEntry } from '@aviary/proto/hostagent';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { fromConnectError } from '../hosts/from-connect-error.ts';
import type { HostClient } from '../hosts/host-clients.ts';
import { disconnectSignal } from '../http/disconnect-signal.ts';
import { runOnceByKey } from '../http/idempotent.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { type DataDeps, openRunning } from './running-sandbox.ts';

const transferTimeoutMs = 30 * 60_000;

/** Upload, download, list, make, remove. */
export function registerFileRoutes(app: FastifyInstance, deps: DataDeps & ApiDeps): void {
  const open = async (teamId: TeamId, id: SandboxId) => await openRunning(deps, { teamId, id, action: 'files' });

  registerRoutes(app, deps, {
    table: fileRoutes,
    handlers: {
      writeFile: async ({ caller, params, query, request, reply }) => {
        const id = parseId('sandbox', params.id, 'id');
        const client = await open(caller.teamId, id);
        const signal = disconnectSignal(reply);
        await agentErrors(() => upload(client, id, { request, signal, path: query.path }));
      },
      readFile: async ({ caller, params, body, reply }) => {
        const id = parseId('sandbox', params.id, 'id');
        const client = await open(caller.teamId, id);
        const options = { signal: disconnectSignal(reply), timeoutMs: transferTimeoutMs };
        const chunks = client.readFile({ sandboxId: id, path: body.path, user: body.user ?? '' }, options);
        const iterator = chunks[Symbol.asyncIterator]();
        // The first chunk is awaited here, so that a file that cannot be read is an error and not a broken download.
        const first = await agentErrors(() => iterator.next());
        return Readable.from(remaining(first, iterator), { objectMode: false });
      },
      listFiles: async ({ caller, params, body }) => {
        const id = parseId('sandbox', params.id, 'id');
        const client = await open(caller.teamId, id);
        const { path, user = '', depth = 1 } = body;
        const { entries } = await agentErrors(() => client.listDir({ sandboxId: id, path, user, depth }));
        return { entries: entries.map(viewEntry) };
      },
      makeDirectory: (call) =>
        runOnceByKey(deps, call, async () => {
          const { caller, params, body } = call;
          const id = parseId('sandbox', params.id, 'id');
          const client = await open(caller.teamId, id);
          const { entry } = await agentErrors(() =>
            client.makeDir({ sandboxId: id, path: body.path, user: body.user ?? '' }),
          );
          if (!entry) throw new AppError('guest_unavailable', 'the guest made the directory but did not describe it');
          return { entry: viewEntry(entry) };
        }),
      removePath: (call) =>
        runOnceByKey<undefined>(deps, call, async () => {
          const { caller, params, body } = call;
          const id = parseId('sandbox', params.id, 'id');
          const client = await open(caller.teamId, id);
          await agentErrors(() => client.removePath({ sandboxId: id, path: body.path, user: body.user ?? '' }));
        }),
    },
  });
}

/** Streams the `file` part to the guest as it arrives; `path` and `user` must come before it. */
async function upload(
  client: HostClient,
  sandboxId: SandboxId,
  { request, signal, path: queryPath }: { request: FastifyRequest; signal: AbortSignal; path: string | undefined },
): Promise<void> {
  if (!request.isMultipart()) {
    throw new AppError('unsupported_media_type', 'send the file as multipart/form-data with the parts path and file');
  }
  const fields = new Map<string, string>();
  for await (const part of request.parts()) {
    if (part.type === 'field') {
      if (part.fieldname !== 'path' && part.fieldname !== 'user') throw unknownPart(part.fieldname);
      fields.set(part.fieldname, String(part.value));
      continue;
    }
    const { file } = part;
    if (part.fieldname !== 'file') throw unknownPart(part.fieldname);
    const path = checkPath(queryPath ?? fields.get('path'));
    const content = async function* () {
      yield { content: { case: 'meta' as const, value: { sandboxId, path, user: fields.get('user') ?? '' } } };
      for await (const chunk of file) yield { content: { case: 'chunk' as const, value: chunk as Buffer } };
      if (file.truncated) throw tooLarge();
    };
    try {
      await client.writeFile(content(), { signal, timeoutMs: transferTimeoutMs });
    } catch (error) {
      file.resume();
      if (!file.readableEnded && !file.destroyed) await once(file, 'close').catch(() => undefined);
      throw file.truncated ? tooLarge() : error;
    }
    return;
  }
  throw new AppError('invalid_request', 'the part `file` is missing', { details: { field: 'file' } });
}

function checkPath(path: string | undefined): string {
  const problem =
    path === undefined || path === ''
      ? 'is missing; send it before `file`'
      : path.includes('\0')
        ? 'must not hold a NUL byte'
        : Buffer.byteLength(path) > fileLimits.maxPathBytes
          ? `must be at most ${fileLimits.maxPathBytes} bytes`
          : undefined;
  if (problem !== undefined || path === undefined) {
    throw new AppError('invalid_request', `path ${problem}`, { details: { field: 'path' } });
  }
  return path;
}

const unknownPart = (name: string) =>
  new AppError('invalid_request', `there is no part ${JSON.stringify(name.slice(0, 64))}; send path, user and file`, {
    details: { field: name.slice(0, 64) },
  });

const tooLarge = () =>
  new AppError('payload_too_large', `a file may have ${fileLimits.maxUploadBytes} bytes; copy larger ones in parts`);

async function* remaining(
  first: IteratorResult<{ chunk: Uint8Array }, unknown>,
  iterator: AsyncIterator<{ chunk: Uint8Array }, unknown>,
): AsyncGenerator<Uint8Array> {
  for (let step = first; !step.done; step = await iterator.next()) yield step.value.chunk;
}

async function agentErrors<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw fromConnectError(error);
  }
}

function viewEntry(entry: GuestEntry): FileEntry {
  return {
    name: entry.name,
    path: entry.path,
    type: isEntryType(entry.type) ? entry.type : 'unknown',
    size: Number(entry.size),
    mode: entry.mode,
    permissions: entry.permissions,
    owner: entry.owner,
    group: entry.group,
    modified_at: Number(entry.modifiedAtUnix),
    symlink_target: entry.symlinkTarget ?? null,
  };
}

const entryTypes: readonly string[] = ['file', 'directory', 'symlink'] satisfies FileEntry['type'][];

function isEntryType(text: string): text is FileEntry['type'] {
  return entryTypes.includes(text);
}
