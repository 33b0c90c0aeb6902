import { asId, type GenerationId, type SandboxId } from '@aviary/core';
import type { GenerationTable } from '@aviary/database';
import type { GenerationInfo } from '@aviary/proto/hostagent';
import type { Selectable } from 'kysely';
import type { Db } from '../context.ts';

export type GenerationRow = Selectable<GenerationTable>;

const generationColumns = [
  'id',
  'sandbox_id',
  'parent_id',
  'name',
  'pinned',
  'cause',
  'has_memory',
  'memory_bytes',
  'disk_bytes',
  'created_at',
] as const satisfies (keyof GenerationTable)[];

/** Keeps what a host says of a generation. Names and pins are the user's: an old answer does not undo them. */
export async function recordGeneration(db: Db, sandboxId: SandboxId, info: GenerationInfo): Promise<void> {
  await db
    .insertInto('generations')
    .values({
      id: asId('generation', info.generationId),
      sandbox_id: sandboxId,
      parent_id: info.parentId ? asId('generation', info.parentId) : null,
      name: info.name || null,
      pinned: info.pinned,
      cause: info.cause,
      has_memory: info.hasMemory,
      memory_bytes: Number(info.memoryBytes),
      disk_bytes: Number(info.diskBytes),
      created_at: new Date(Number(info.createdAtUnixMs)),
    })
    .onConflict((conflict) =>
      conflict.column('id').doUpdateSet({
        has_memory: info.hasMemory,
        memory_bytes: Number(info.memoryBytes),
        disk_bytes: Number(info.diskBytes),
      }),
    )
    .execute();
}

/** Newest first; bounded by what a host keeps of one sandbox. */
export function listGenerations(db: Db, sandboxId: SandboxId): Promise<GenerationRow[]> {
  return db
    .selectFrom('generations')
    .select(generationColumns)
    .where('sandbox_id', '=', sandboxId)
    .orderBy('created_at', 'desc')
    .limit(1_000)
    .execute();
}

/** Drops rows of generations that the host no longer keeps. */
export async function forgetGenerations(db: Db, sandboxId: SandboxId, kept: GenerationId[]): Promise<void> {
  let query = db.deleteFrom('generations').where('sandbox_id', '=', sandboxId);
  if (kept.length > 0) query = query.where('id', 'not in', kept);
  await query.execute();
}

/** One generation of a sandbox, by id or by name. */
export function findGeneration(
  db: Db,
  sandboxId: SandboxId,
  by: { id: GenerationId } | { name: string },
): Promise<GenerationRow | undefined> {
  const query = db.selectFrom('generations').select(generationColumns).where('sandbox_id', '=', sandboxId);
  return ('id' in by ? query.where('id', '=', by.id) : query.where('name', '=', by.name)).executeTakeFirst();
}

/** Sets name and pin of a generation; what is absent stays. Throws the store's unique violation when the name is taken. */
export function updateGenerationRow(
  db: Db,
  id: GenerationId,
  { name, pinned }: { name?: string | null; pinned?: boolean },
): Promise<GenerationRow> {
  return db
    .updateTable('generations')
    .set({ ...(name === undefined ? {} : { name }), ...(pinned === undefined ? {} : { pinned }) })
    .where('id', '=', id)
    .returning(generationColumns)
    .executeTakeFirstOrThrow();
}
