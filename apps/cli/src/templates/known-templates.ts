import type { Candidate, LookUpContext } from '../command.ts';
import { firstFew } from '../first-few.ts';

/** What sandboxes can start from, to complete a name. */
export async function knownTemplates({ client, signal }: LookUpContext): Promise<readonly Candidate[]> {
  const found = await firstFew(client().snapshots.list({ signal }));
  return found.map(({ name, status, memory_mb }) => ({ value: name, summary: `${status}, ${memory_mb} MiB` }));
}
