import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { OperationContext } from './operation-context.ts';
import { commitUpload } from './upload-target.ts';

const { uid, gid, username } = userInfo();
const context: OperationContext = {
  user: { name: username, uid, gid, groups: [gid], home: '/', shell: '/bin/sh' },
  checkCancelled: () => undefined,
  asRoot: (work) => work(),
};

it('leaves the file that was there and nothing beside it when the new one cannot have its attributes', () => {
  const directory = mkdtempSync(join(tmpdir(), 'aviary-upload-'));
  const path = join(directory, 'file');
  const temporary = join(directory, '.new');
  writeFileSync(path, 'old');
  // As where a file cannot be without a name.
  const fd = openSync(temporary, 'wx+');
  try {
    const target = { fd, path, place: path, kept: { uid, gid, mode: 0o644 }, temporary, isCopied: false };
    const metadata = { long: 'x'.repeat(100_000) };
    expect(() => commitUpload(context, { target, metadata })).toThrow(expect.objectContaining({ path }));
    expect([readFileSync(path, 'utf8'), readdirSync(directory)]).toEqual(['old', ['file']]);
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
});
