import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { waitFor } from '@aviary/service-kit';
import { patienceMs } from '../testing/patience.ts';
import type { MicroVm } from './vmm.ts';

// The guest of the conformance suite, which counts, seen from outside. See `createSpec` in `vmm-conformance.ts`.

export const pageBytes = 4096;
export const tickTimeoutMs = patienceMs(60_000);

/** The last whole `tick N` line of a console; 0 when there is none. */
export function lastTick(consoleText: string): number {
  return Number([...consoleText.matchAll(/tick (\d+)\r?\n/g)].at(-1)?.[1] ?? 0);
}

/** Waits until a running guest has counted to `tick`, and resolves with where it is. */
export async function waitForTick(vm: MicroVm, tick: number): Promise<number> {
  return waitFor({ what: `tick ${tick} of the guest`, timeoutMs: tickTimeoutMs, intervalMs: 20 }, async () => {
    const ended = vm.exited.then(({ reason }) => reason);
    const text = await vm.consoleTail().catch(async (error: unknown) => {
      throw new Error(`the guest ended while it should count: ${await ended}`, { cause: error });
    });
    const now = lastTick(text);
    return now >= tick ? now : undefined;
  });
}

/** The pages that a paused microVM has written, by their offset. */
export async function collectDirty(vm: MicroVm): Promise<Map<number, Buffer>> {
  const pages = new Map<number, Buffer>();
  await vm.dirtyPages(async ({ offset, data }) => {
    for (let at = 0; at < data.length; at += pageBytes)
      pages.set(offset + at, Buffer.from(data.subarray(at, at + pageBytes)));
  });
  return pages;
}

/** Copies a memory file with what a paused microVM has written over it. */
export async function copyWithDirtyPages(vm: MicroVm, { from, to }: { from: string; to: string }): Promise<void> {
  await mkdir(path.dirname(to), { recursive: true });
  await writeFile(to, await readFile(from), { mode: 0o644 });
  await using file = await open(to, 'r+');
  await vm.dirtyPages(async ({ offset, data }) => {
    await file.write(data, 0, data.length, offset);
  });
}
