import { expect, test } from 'vitest';
import { cpioArchive } from './cpio.ts';

test('an archive holds its entries with their types, modes and owner', () => {
  const archive = cpioArchive([
    { path: 'bin', type: 'directory' },
    { path: 'bin/tool', type: 'file', content: 'abcde', mode: 0o755 },
    { path: 'dev-link', type: 'link', target: '/proc/self/fd' },
    { path: 'console', type: 'character-device', major: 5, minor: 1 },
  ]);
  expect(members(archive)).toEqual([
    { name: 'bin', mode: 0o40755, uid: 0, gid: 0, mtime: 0, device: '0:0', content: '' },
    { name: 'bin/tool', mode: 0o100755, uid: 0, gid: 0, mtime: 0, device: '0:0', content: 'abcde' },
    { name: 'dev-link', mode: 0o120777, uid: 0, gid: 0, mtime: 0, device: '0:0', content: '/proc/self/fd' },
    { name: 'console', mode: 0o20600, uid: 0, gid: 0, mtime: 0, device: '5:1', content: '' },
    { name: 'TRAILER!!!', mode: 0, uid: 0, gid: 0, mtime: 0, device: '0:0', content: '' },
  ]);
});

test('equal content gives equal bytes', () => {
  const make = () => cpioArchive([{ path: 'file', type: 'file', content: Buffer.from([1, 2, 3]) }]);
  expect(make().equals(make())).toBe(true);
});

/** Reads an archive by the format's own description, independently of the writer. */
function members(archive: Buffer) {
  const found = [];
  let at = 0;
  while (at < archive.length) {
    expect(archive.toString('latin1', at, at + 6)).toBe('070701');
    const field = (index: number) =>
      Number.parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
    const align = (position: number) => Math.ceil(position / 4) * 4;
    const nameEnd = at + 110 + field(11);
    const contentAt = align(nameEnd);
    const contentEnd = contentAt + field(6);
    found.push({
      name: archive.toString('utf8', at + 110, nameEnd - 1),
      mode: field(1),
      uid: field(2),
      gid: field(3),
      mtime: field(5),
      device: `${field(9)}:${field(10)}`,
      content: archive.toString('utf8', contentAt, contentEnd),
    });
    at = align(contentEnd);
  }
  return found;
}
