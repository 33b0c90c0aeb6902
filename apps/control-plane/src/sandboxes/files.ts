import { Readable } from 'node:stream';
import { type FileEntry, fileRoutes } from '@aviary/api-contract';
import { AppError, parseId, type SandboxId, type TeamId } from '@aviary/core';
import type { FileEntry as GuestEntry } from '@aviary/proto/hostagent';
import type { FastifyInstance } from 'fastify';
import type { HostClient } from '../hosts/host-clients.ts';
import { disconnectSignal } from '../http/disconnect-signal.ts';
import { runOnceByKey } from '../http/idempotent.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { type DataDeps, openRunning } from './running-sandbox.ts';
import { readUploadForm, type UploadForm } from './upload-form.ts';

const transferTimeoutMs = 30 * 60_000;

/** Upload, download, list, make, remove. */
export function registerFileRoutes(app: FastifyInstance, deps: DataDeps & ApiDeps): void {
  const open = async (teamId: TeamId, id: SandboxId) =>
    await openRunning(deps, { teamId, id, action: 'files', activity: 'files' });

  registerRoutes(app, deps, {
    table: fileRoutes,
    handlers: {
      writeFile: async ({ caller, params, query, request, reply }) => {
        const id = parseId('sandbox', params.id, 'id');
        const client = await open(caller.teamId, id);
        const form = await readUploadForm(request, query);
        await upload(client, id, form, disconnectSignal(reply));
      },
      readFile: async ({ caller, params, body, reply }) => {
        const id = parseId('sandbox', params.id, 'id');
        const client = await open(caller.teamId, id);
        const options = { signal: disconnectSignal(reply), timeoutMs: transferTimeoutMs };
        const chunks = client.readFile({ sandboxId: id, path: body.path, user: body.user ?? '' }, options);
        const iterator = chunks[Symbol.asyncIterator]();
        // The first chunk is awaited here, so that a file that cannot be read is an error and not a broken download.
        const first = await iterator.next();
        return Readable.from(remaining(first, iterator), { objectMode: false });
      },
      listFiles: async ({ caller, params, body, reply }) => {
        const id = parseId('sandbox', params.id, 'id');
        const client = await open(caller.teamId, id);
        const { path, user = '', depth = 1, limit: pageSize = 0, cursor = '' } = body;
        const { entries, nextCursor } = await client.listDir(
          { sandboxId: id, path, user, depth, pageSize, cursor },
          { signal: disconnectSignal(reply) },
        );
        return { entries: entries.map(viewEntry), next_cursor: nextCursor === '' ? null : nextCursor };
      },
      makeDirectory: (call) =>
        runOnceByKey(deps, call, async () => {
          const { caller, params, body } = call;
          const id = parseId('sandbox', params.id, 'id');
          const client = await open(caller.teamId, id);
          const { entry } = await client.makeDir({ sandboxId: id, path: body.path, user: body.user ?? '' });
          if (!entry) throw new AppError('guest_unavailable', 'the guest made the directory but did not describe it');
          return { entry: viewEntry(entry) };
        }),
      removePath: (call) =>
        runOnceByKey<undefined>(deps, call, async () => {
          const { caller, params, body } = call;
          const id = parseId('sandbox', params.id, 'id');
          const client = await open(caller.teamId, id);
          await client.removePath({ sandboxId: id, path: body.path, user: body.user ?? '' });
        }),
    },
  });
}

/** Streams a form's file to the guest as it arrives. The guest replaces its file when all of it, and the form around it, was there. */
async function upload(client: HostClient, sandboxId: SandboxId, form: UploadForm, signal: AbortSignal): Promise<void> {
  let failure: unknown;
  const messages = async function* () {
    yield { content: { case: 'meta' as const, value: { sandboxId, path: form.path, user: form.user } } };
    try {
      for await (const chunk of form.content) yield { content: { case: 'chunk' as const, value: chunk } };
    } catch (error) {
      failure = error;
      throw error;
    }
    yield { content: { case: 'end' as const, value: true } };
  };
  try {
    await client.writeFile(messages(), { signal, timeoutMs: transferTimeoutMs });
  } catch (error) {
    await form.drain(signal);
    throw failure ?? error;
  }
}

async function* remaining(
  first: IteratorResult<{ chunk: Uint8Array }, unknown>,
  iterator: AsyncIterator<{ chunk: Uint8Array }, unknown>,
): AsyncGenerator<Uint8Array> {
  for (let step = first; !step.done; step = await iterator.next()) yield step.value.chunk;
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
