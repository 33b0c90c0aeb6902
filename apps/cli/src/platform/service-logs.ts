import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import path from 'node:path';

/** A service's log starts a new file at this size; one older file is kept. */
const maxLogBytes = 8 * 1024 * 1024;

/** Where the lines of a service are kept. */
export function serviceLogFile(dataDir: string, service: string): string {
  return path.join(dataDir, 'logs', `${service}.log`);
}

/** Keeps what the services write, in a file each, within a bound. Lines that cannot be written are left out: logs stop no service. */
export class ServiceLogs implements Disposable {
  readonly #dataDir: string;
  readonly #maxBytes: number;
  readonly #files = new Map<string, { descriptor: number; bytes: number }>();

  constructor(dataDir: string, { maxBytes = maxLogBytes }: { maxBytes?: number } = {}) {
    this.#dataDir = dataDir;
    this.#maxBytes = maxBytes;
  }

  add(service: string, line: string): void {
    try {
      const file = this.#files.get(service) ?? this.#open(service);
      file.bytes += writeSync(file.descriptor, `${line}\n`);
      if (file.bytes >= this.#maxBytes) this.#rotate(service, file.descriptor);
    } catch {
      this.#close(service); // e.g. a full disk: the next line tries anew
    }
  }

  [Symbol.dispose](): void {
    for (const service of [...this.#files.keys()]) this.#close(service);
  }

  #open(service: string): { descriptor: number; bytes: number } {
    const name = serviceLogFile(this.#dataDir, service);
    mkdirSync(path.dirname(name), { recursive: true, mode: 0o750 });
    const descriptor = openSync(name, 'a', 0o640);
    const file = { descriptor, bytes: fstatSync(descriptor).size };
    this.#files.set(service, file);
    return file;
  }

  #rotate(service: string, descriptor: number): void {
    this.#files.delete(service);
    closeSync(descriptor);
    const name = serviceLogFile(this.#dataDir, service);
    renameSync(name, `${name}.1`);
  }

  #close(service: string): void {
    const file = this.#files.get(service);
    this.#files.delete(service);
    if (file) closeSync(file.descriptor);
  }
}
