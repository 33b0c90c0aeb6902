/** One entry of an archive. Everything belongs to root and dates from the epoch, so that equal content is equal bytes. */
export type CpioEntry =
  | { path: string; type: 'directory'; mode?: number }
  | { path: string; type: 'file'; content: Buffer | string; mode?: number }
  | { path: string; type: 'link'; target: string }
  | { path: string; type: 'character-device'; major: number; minor: number; mode?: number };

const fileTypes = { directory: 0o040000, file: 0o100000, link: 0o120000, 'character-device': 0o020000 } as const;

/**
 * An archive in the "newc" format that the kernel unpacks as its initramfs, in the entries' order: a directory comes before
 * what is in it. Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
 */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.flatMap((entry, index) => entryParts(entry, index + 1));
  parts.push(...member({ name: 'TRAILER!!!', inode: 0, mode: 0, links: 1, content: Buffer.alloc(0) }));
  return Buffer.concat(parts);
}

function entryParts(entry: CpioEntry, inode: number): Buffer[] {
  const type = fileTypes[entry.type];
  switch (entry.type) {
    case 'directory':
      return member({
        name: entry.path,
        inode,
        mode: type | (entry.mode ?? 0o755),
        links: 2,
        content: Buffer.alloc(0),
      });
    case 'file':
      return member({
        name: entry.path,
        inode,
        mode: type | (entry.mode ?? 0o644),
        links: 1,
        content: toBuffer(entry.content),
      });
    case 'link':
      return member({ name: entry.path, inode, mode: type | 0o777, links: 1, content: toBuffer(entry.target) });
    case 'character-device':
      return member({
        name: entry.path,
        inode,
        mode: type | (entry.mode ?? 0o600),
        links: 1,
        content: Buffer.alloc(0),
        device: { major: entry.major, minor: entry.minor },
      });
    default:
      return entry satisfies never;
  }
}

interface Member {
  name: string;
  inode: number;
  mode: number;
  links: number;
  content: Buffer;
  device?: { major: number; minor: number };
}

function member({ name, inode, mode, links, content, device = { major: 0, minor: 0 } }: Member): Buffer[] {
  const nameBytes = Buffer.from(`${name}\0`);
  const fields = [
    ...[inode, mode, 0, 0, links, 0, content.length, 0, 0],
    ...[device.major, device.minor, nameBytes.length, 0],
  ];
  const header = `070701${fields.map((field) => field.toString(16).toUpperCase().padStart(8, '0')).join('')}`;
  const head = Buffer.concat([Buffer.from(header, 'latin1'), nameBytes]);
  return [head, padding(head.length), content, padding(content.length)];
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}

function toBuffer(content: Buffer | string): Buffer {
  return typeof content === 'string' ? Buffer.from(content) : content;
}
