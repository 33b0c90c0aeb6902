import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { HostLayout } from '../layout.ts';

/** An empty data directory for each test of the file that calls this, removed after it. Filled in before the test begins. */
export function useStoreDirectory(): { directory: string; layout: HostLayout } {
  const place = { directory: '', layout: new HostLayout('/') };
  beforeEach(async () => {
    place.directory = await mkdtemp(path.join(tmpdir(), 'generations-'));
    place.layout = new HostLayout(place.directory);
  });
  afterEach(() => rm(place.directory, { recursive: true }));
  return place;
}
