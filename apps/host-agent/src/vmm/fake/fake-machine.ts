/**
 * The process behind one fake microVM: what QEMU is to the real driver. It has a control socket (QMP's framing), a "guest"
 * that counts on its console, in its memory and on its disk, and it ends for the reasons that a VMM ends for. Started by `fake-vmm.ts`
 * with a {@link FakeMachineConfig} as its only argument.
 */
import { access, constants, type FileHandle, open, readFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import type { DiskLayer } from '../../disk/disk-store.ts';

export interface FakeMachineConfig {
  memoryMib: number;
  kernelPath: string;
  kernelParameters: readonly string[];
  memoryPath: string;
  disk: DiskLayer;
  socketPath: string;
  /** Unset when booting. */
  statePath?: string;
}

interface GuestState {
  tick: number;
}

const stateMagic = 'aviary-fake-state-1';
const pageBytes = 4096;
const tickMs = 50;
/** Pages that the guest writes in turn: each holds a tick's number until it is zeroed at the next tick. */
const writtenPages = 64;
const consoleBytes = 64 * 1024;
/** Longest run of pages in one message; it is base64 and must fit a message. */
const maxRangeBytes = 64 * pageBytes;
const powerOffTick = 5;

class FakeMachine {
  readonly #config: FakeMachineConfig;
  readonly #memory: FileHandle;
  /** Written pages of a restored guest; a booted one writes through to the file. */
  readonly #overlay: Map<number, Buffer> | undefined;
  readonly #sockets = new Set<Socket>();
  #disk: FileHandle;
  #diskLayer: FakeMachineConfig['disk'];
  #guest: GuestState;
  #console = '';
  #isRunning = false;
  /** The tick under way: a stopped guest has none. */
  #ticking: Promise<void> = Promise.resolve();

  private constructor(
    config: FakeMachineConfig,
    { memory, disk, guest }: { memory: FileHandle; disk: FileHandle; guest: GuestState },
  ) {
    this.#config = config;
    this.#memory = memory;
    this.#disk = disk;
    this.#diskLayer = config.disk;
    this.#guest = guest;
    this.#overlay = config.statePath === undefined ? undefined : new Map();
  }

  static async open(config: FakeMachineConfig): Promise<FakeMachine> {
    await access(config.kernelPath, constants.R_OK);
    const guest = config.statePath === undefined ? { tick: 0 } : parseState(await readFile(config.statePath, 'utf8'));
    const isBoot = config.statePath === undefined;
    const memory = await open(config.memoryPath, isBoot ? 'r+' : 'r');
    if (isBoot) await memory.truncate(config.memoryMib * 1024 * 1024);
    const disk = await open(config.disk.path, 'r+');
    return new FakeMachine(config, { memory, disk, guest });
  }

  serve(): void {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => socket.destroy());
      socket.write(`${JSON.stringify({ QMP: {} })}\n`);
      let rest = '';
      socket.setEncoding('utf8').on('data', (text: string) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) void this.#answer(socket, line);
      });
    });
    server.listen(this.#config.socketPath);
    setInterval(() => {
      if (this.#isRunning) this.#ticking = this.#ticking.then(() => this.#tick());
    }, tickMs);
  }

  async #answer(socket: Socket, line: string): Promise<void> {
    const {
      id,
      execute,
      arguments: args = {},
    } = JSON.parse(line) as {
      id: number;
      execute: string;
      arguments?: Record<string, unknown>;
    };
    const answer = await this.#execute(execute, args).then(
      (value) => ({ return: value ?? {}, id }),
      (error: unknown) => ({ error: { desc: error instanceof Error ? error.message : String(error) }, id }),
    );
    if (!socket.destroyed) socket.write(`${JSON.stringify(answer)}\n`);
  }

  async #execute(command: string, args: Record<string, unknown>): Promise<unknown> {
    switch (command) {
      case 'qmp_capabilities':
        return {};
      case 'stop':
        this.#isRunning = false;
        await this.#ticking;
        return {};
      case 'cont':
        this.#isRunning = true;
        return {};
      case 'query-status':
        return { running: this.#isRunning };
      case 'console':
        return this.#console;
      case 'save-state':
        return this.#saveState(String(args['path']));
      case 'dirty-range':
        return this.#nextDirtyRange(Number(args['from']));
      case 'write-memory':
        return this.#overwrite(Number(args['offset']), Buffer.from(String(args['data']), 'base64'));
      case 'read-memory':
        return (await this.#read(Number(args['offset']), Number(args['length']))).toString('base64');
      case 'flush':
        await this.#disk.sync();
        return {};
      case 'switch-disk':
        return this.#switchDisk(args as unknown as FakeMachineConfig['disk']);
      case 'disk-path':
        return this.#diskLayer.path;
      default:
        throw new Error(`unknown command ${command}`);
    }
  }

  async #saveState(path: string): Promise<void> {
    await using file = await open(path, 'wx', 0o600);
    await file.writeFile(JSON.stringify({ magic: stateMagic, ...this.#guest }));
    await file.sync();
  }

  async #switchDisk(layer: FakeMachineConfig['disk']): Promise<void> {
    if (layer.path === this.#diskLayer.path) return;
    const next = await open(layer.path, 'r+');
    await this.#disk.sync();
    await this.#disk.close();
    this.#disk = next;
    this.#diskLayer = layer;
  }

  /** The first run of written pages at or after `from`; empty when there is none. */
  #nextDirtyRange(from: number): { offset: number; data: string } {
    if (!this.#overlay) throw new Error('the memory of a booted guest is in its file');
    const offsets = [...this.#overlay.keys()].filter((offset) => offset >= from).sort((a, b) => a - b);
    const [first] = offsets;
    if (first === undefined) return { offset: from, data: '' };
    const pages: Buffer[] = [];
    for (let at = first; at < first + maxRangeBytes; at += pageBytes) {
      const page = this.#overlay.get(at);
      if (!page) break;
      pages.push(page);
    }
    return { offset: first, data: Buffer.concat(pages).toString('base64') };
  }

  async #read(offset: number, length: number): Promise<Buffer> {
    const data = Buffer.alloc(length);
    await this.#memory.read(data, 0, length, offset);
    for (let at = offset; at < offset + length; at += pageBytes) this.#overlay?.get(at)?.copy(data, at - offset);
    return data;
  }

  async #overwrite(offset: number, data: Buffer): Promise<void> {
    if (offset + data.length > this.#config.memoryMib * 1024 * 1024) throw new Error(`there is no memory at ${offset}`);
    if (this.#isRunning || !this.#overlay)
      throw new Error('only the memory of a restored, stopped guest can be overwritten');
    for (let at = 0; at < data.length; at += pageBytes)
      await this.#write((offset + at) / pageBytes, data.subarray(at, at + pageBytes));
  }

  async #write(page: number, content: Buffer): Promise<void> {
    const offset = page * pageBytes;
    if (this.#overlay) this.#overlay.set(offset, content);
    else await this.#memory.write(content, 0, pageBytes, offset);
  }

  async #tick(): Promise<void> {
    const tick = ++this.#guest.tick;
    await this.#write((tick - 1) % writtenPages, Buffer.alloc(pageBytes));
    await this.#write(tick % writtenPages, Buffer.alloc(pageBytes, `tick ${tick} `));
    // A layer in a real format is left alone: this guest knows nothing of formats.
    if (this.#diskLayer.format === 'raw') await this.#disk.write(`tick ${String(tick).padStart(8, '0')}`, 0);
    this.#console = `${this.#console}tick ${tick}\n`.slice(-consoleBytes);
    if (tick === powerOffTick && this.#config.kernelParameters.includes('test.then=poweroff')) this.#powerOff();
  }

  #powerOff(): void {
    this.#isRunning = false;
    const event = `${JSON.stringify({ event: 'SHUTDOWN', data: { reason: 'guest powered off', console: this.#console.slice(-1_000) } })}\n`;
    const written = [...this.#sockets].map(
      (socket) => new Promise<void>((resolve) => socket.end(event, () => resolve())),
    );
    void Promise.all(written).then(() => process.exit(0));
  }
}

function parseState(text: string): GuestState {
  const { magic, tick } = JSON.parse(text) as { magic?: unknown; tick?: unknown };
  if (magic !== stateMagic || typeof tick !== 'number') throw new Error('the device state is not one of this VMM');
  return { tick };
}

/** A machine whose directory is gone belongs to no test any more: it must not outlive it. */
function endWithDirectory(socketPath: string): void {
  setInterval(() => {
    access(socketPath).catch(() => process.exit(0));
  }, 1_000);
}

const config = JSON.parse(process.argv[2] ?? '') as FakeMachineConfig;
const machine = await FakeMachine.open(config).catch((error: unknown) => {
  process.stderr.write(`cannot start the fake machine: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
machine.serve();
endWithDirectory(config.socketPath);
