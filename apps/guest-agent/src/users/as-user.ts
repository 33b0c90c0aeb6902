import { withThreadCredentials } from '@aviary/linux';
import type { GuestUser } from './user-database.ts';

/** Runs synchronous `work`, forks included, as `user`; as the agent itself when that is the same user. */
export function asUser<T>(user: GuestUser, work: () => T): T {
  return user.uid === process.getuid?.() ? work() : withThreadCredentials(user, work);
}
