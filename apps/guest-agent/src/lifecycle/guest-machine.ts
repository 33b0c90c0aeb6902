import { readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import {
  abortTcpConnections,
  addKernelEntropy,
  flushNeighbours,
  reseedNodeCrypto,
  setHostName,
  setWallClock,
  syncFileSystem,
} from '@aviary/linux';

/** One end of the connection that carries the current request: the one that must survive a restore. */
export interface PeerAddress {
  address: string;
  port: number;
}

/** What the lifecycle routes do to the machine: an interface, so that tests leave theirs alone. */
export interface GuestMachine {
  setClock(unixMs: number): void;
  addEntropy(bytes: Buffer): void;
  setIdentity(identity: { hostname: string; machineId: string }): void;
  /** Ends connections whose peers a restore left behind. False when the kernel cannot. */
  dropStaleConnections(current: PeerAddress): boolean;
  flushNeighbours(): void;
  /** Writes every disk's dirty data out; rejects with the disk's error. */
  syncDisks(): Promise<void>;
  /** Bytes that {@link syncDisks} would write now. */
  dirtyBytes(): number;
}

/** The microVM this agent runs in. */
export const linuxGuest: GuestMachine = {
  setClock: setWallClock,

  addEntropy(bytes) {
    addKernelEntropy(bytes);
    reseedNodeCrypto(bytes);
  },

  setIdentity({ hostname: name, machineId }) {
    if (hostname() !== name) setHostName(name);
    writeIfDifferent('/etc/machine-id', `${machineId}\n`);
    writeIfDifferent('/etc/hosts', hostsWithName(readText('/etc/hosts'), name));
  },

  dropStaleConnections(current) {
    try {
      abortTcpConnections(({ remoteAddress, remotePort }) => {
        const isLocal = remoteAddress.startsWith('127.') || remoteAddress === '0:0:0:0:0:0:0:1';
        return !isLocal && !(remoteAddress === current.address && remotePort === current.port);
      });
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (
        code === 'ENOENT' ||
        code === 'EOPNOTSUPP' ||
        code === 'ENOTSUP' ||
        code === 'EINVAL' ||
        code === 'EPROTONOSUPPORT'
      )
        return false;
      throw error;
    }
  },

  flushNeighbours() {
    flushNeighbours();
  },

  async syncDisks() {
    for (const mountPoint of diskMountPoints(readFileSync('/proc/self/mounts', 'utf8')))
      await syncFileSystem(mountPoint);
  },

  dirtyBytes() {
    const text = readFileSync('/proc/meminfo', 'utf8');
    return ['Dirty', 'Writeback'].reduce(
      (sum, name) => sum + Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1_024,
      0,
    );
  },
};

/** One writable mount point of each block device in the text of /proc/self/mounts. */
function diskMountPoints(mounts: string): string[] {
  const byDevice = new Map<string, string>();
  for (const line of mounts.split('\n')) {
    const [device = '', mountPoint = '', , options = ''] = line.split(' ');
    if (!device.startsWith('/dev/') || options.split(',').includes('ro') || byDevice.has(device)) continue;
    byDevice.set(
      device,
      mountPoint.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    );
  }
  return [...byDevice.values()];
}

/** The hosts file with `name` as this machine's own: programs that look their own name up must not wait for a resolver. */
function hostsWithName(hosts: string, name: string): string {
  const own = `127.0.1.1 ${name}`;
  const kept = hosts.split('\n').filter((line) => line !== '' && !/^127\.0\.1\.1\s/.test(line));
  return `${[...kept, own].join('\n')}\n`;
}

function writeIfDifferent(path: string, text: string): void {
  if (readText(path) !== text) writeFileSync(path, text, { mode: 0o644 });
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
