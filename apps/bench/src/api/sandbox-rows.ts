import type { Database } from '@aviary/database';

type Db = Database['db'];

/** How many operations have not come to their end. */
export async function countRunning(db: Db): Promise<number> {
  const { count } = await db
    .selectFrom('operations')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('state', '=', 'running')
    .executeTakeFirstOrThrow();
  return Number(count);
}

/** Stops sandboxes that nobody could start: they hold no place any more. */
export async function stopSandboxes(db: Db): Promise<void> {
  await db.updateTable('sandboxes').set({ status: 'stopped' }).where('status', '=', 'error').execute();
}
