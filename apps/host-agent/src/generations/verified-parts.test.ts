import { link, mkdtemp, open, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sealPart } from './seal-part.ts';
import { VerifiedParts } from './verified-parts.ts';

let directory: string;
let file: string;
const content = Buffer.alloc(100_000, 7);

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'verified-'));
  file = path.join(directory, 'part');
  await writeFile(file, content);
});
afterEach(() => rm(directory, { recursive: true }));

/** A file that was last written a minute ago, and verified since. */
async function verifiedPart() {
  const past = new Date(Date.now() - 60_000);
  await utimes(file, past, past);
  const facts = await sealPart(file);
  const verified = new VerifiedParts();
  await verified.check(file, facts);
  const isTrusted = async () => verified.isTrusted(file, await stat(file, { bigint: true }));
  expect(await isTrusted()).toBe(true);
  return { verified, facts, isTrusted, past };
}

const integrity = expect.objectContaining({ code: 'integrity' });

describe('verified parts', () => {
  it('does not trust a file that it has not hashed, nor one written a moment ago', async () => {
    const verified = new VerifiedParts();
    const now = await stat(file, { bigint: true });
    expect(verified.isTrusted(file, now)).toBe(false);
    const young = new Date(Date.now() + 1_000);
    await utimes(file, young, young);
    verified.remember(file, await stat(file, { bigint: true }));
    expect(verified.isTrusted(file, await stat(file, { bigint: true }))).toBe(false);
  });

  it('trusts a file of ours that was written only now, until the next write, be it in the same tick', async () => {
    const verified = new VerifiedParts();
    await verified.rememberFresh(file, await stat(file, { bigint: true }));
    expect(verified.isTrusted(file, await stat(file, { bigint: true }))).toBe(true);
    await writeFile(file, Buffer.alloc(content.length));
    expect(verified.isTrusted(file, await stat(file, { bigint: true }))).toBe(false);
  });

  it('hashes again after a write of the same length, although its times were set back', async () => {
    const { verified, facts, isTrusted, past } = await verifiedPart();
    const handle = await open(file, 'r+');
    await handle.write(Buffer.from([8]), 0, 1, 50_000);
    await handle.close();
    await utimes(file, past, past);
    expect(await isTrusted()).toBe(false);
    await expect(verified.check(file, facts)).rejects.toEqual(integrity);
  });

  it('hashes again after another file took the name, and accepts it if it is the same', async () => {
    const { verified, facts, isTrusted, past } = await verifiedPart();
    await writeFile(`${file}.new`, content);
    await utimes(`${file}.new`, past, past);
    await rename(`${file}.new`, file);
    expect(await isTrusted()).toBe(false);
    await verified.check(file, facts);
    expect(await isTrusted()).toBe(true);
  });

  it('keeps its trust when another name of the file goes by its own hand, not when somebody writes meanwhile', async () => {
    const { verified, facts, isTrusted } = await verifiedPart();
    await link(file, `${file}.name`);
    expect(await isTrusted()).toBe(false);
    await verified.check(file, facts);
    await verified.keepTrust(file, () => rm(`${file}.name`));
    expect(await isTrusted()).toBe(true);
    await verified.keepTrust(file, () => writeFile(file, Buffer.alloc(content.length)));
    expect(await isTrusted()).toBe(false);
  });

  it('reads everything when asked to be thorough, and says how a file is damaged', async () => {
    const { verified, facts } = await verifiedPart();
    await verified.check(file, facts, { isThorough: true });
    const wrong = { ...facts, sha256: '0'.repeat(64) };
    await verified.check(file, wrong);
    await expect(verified.check(file, wrong, { isThorough: true })).rejects.toEqual(integrity);
    await expect(verified.check(file, { ...facts, bytes: 1 })).rejects.toThrow(/100000 bytes instead of 1/);
    await expect(verified.check(`${file}.gone`, facts)).rejects.toEqual(integrity);
  });
});
