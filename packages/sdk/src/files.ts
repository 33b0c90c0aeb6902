import type { FileEntry } from './resources.ts';
import { sandboxPath } from './sandboxes.ts';
import type { CallOptions, Transport } from './transport.ts';

/** Whose rights a file operation has in the guest, by name or number; those of the sandbox's default user when absent. */
export interface FileOptions extends CallOptions {
  user?: string;
}

export interface ListOptions extends FileOptions {
  /** Levels to descend. Default 1. */
  depth?: number;
  /** Entries asked for at a time. The guest reads the directory once for each page. */
  pageSize?: number;
}

const defaultPageSize = 5_000;
/** Moving whole files may take longer than an ordinary call. */
const transferTimeoutMs = 600_000;

/** Files of a sandbox. Every method throws AviaryError. */
export class Files {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Writes a file, which is replaced once all of `data` has arrived; directories on the way are made. */
  async write(
    sandboxId: string,
    { path, data }: { path: string; data: string | Uint8Array<ArrayBuffer> | Blob },
    { user, ...call }: FileOptions = {},
  ): Promise<void> {
    // Form data turns line ends into CR LF, which would be another name.
    const isInQuery = /[\r\n]/.test(path);
    const form = () => {
      const fields = new FormData();
      if (!isInQuery) fields.set('path', path);
      if (user !== undefined) fields.set('user', user);
      fields.set('file', data instanceof Blob ? data : new Blob([data]), path.split('/').at(-1) || 'file');
      return fields;
    };
    const url = sandboxPath(sandboxId, '/files/write');
    await this.#transport.json({
      method: 'POST',
      path: url,
      query: { path: isInQuery ? path : undefined },
      form,
      timeoutMs: transferTimeoutMs,
      ...call,
    });
  }

  /** The bytes of a file. */
  async read(sandboxId: string, path: string, { user, ...call }: FileOptions = {}): Promise<Uint8Array> {
    return await this.#transport.bytes({
      method: 'POST',
      path: sandboxPath(sandboxId, '/files/read'),
      json: { path, user },
      timeoutMs: transferTimeoutMs,
      ...call,
    });
  }

  /** The bytes of a file as UTF-8 text. */
  async readText(sandboxId: string, path: string, options: FileOptions = {}): Promise<string> {
    return new TextDecoder().decode(await this.read(sandboxId, path, options));
  }

  /** All that is in a directory, `depth` levels down (default 1), however much that is: see {@link entries} to take it piece by piece. */
  async list(sandboxId: string, path: string, options: ListOptions = {}): Promise<FileEntry[]> {
    const found: FileEntry[] = [];
    for await (const entry of this.entries(sandboxId, path, options)) found.push(entry);
    return found;
  }

  /**
   * What is in a directory, page after page as it is taken: directories before what is in them, names in order. What comes or goes meanwhile
   * may be missing or come twice.
   */
  async *entries(
    sandboxId: string,
    path: string,
    { user, depth, pageSize: limit = defaultPageSize, ...call }: ListOptions = {},
  ): AsyncGenerator<FileEntry, void, undefined> {
    let cursor: string | undefined;
    do {
      const page: { entries: FileEntry[]; next_cursor: string | null } = await this.#transport.json({
        method: 'POST',
        path: sandboxPath(sandboxId, '/files/list'),
        json: { path, depth, user, limit, cursor },
        ...call,
      });
      yield* page.entries;
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
  }

  /** Makes a directory, and those above it. */
  async mkdir(sandboxId: string, path: string, { user, ...call }: FileOptions = {}): Promise<FileEntry> {
    const { entry } = await this.#transport.json<{ entry: FileEntry }>({
      method: 'POST',
      path: sandboxPath(sandboxId, '/files/mkdir'),
      json: { path, user },
      ...call,
    });
    return entry;
  }

  /** Removes a file, or a directory with all that is in it. */
  async remove(sandboxId: string, path: string, { user, ...call }: FileOptions = {}): Promise<void> {
    const url = sandboxPath(sandboxId, '/files/remove');
    await this.#transport.json({ method: 'POST', path: url, json: { path, user }, ...call });
  }
}
