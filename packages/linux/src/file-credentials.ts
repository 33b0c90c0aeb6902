import type { Credentials } from './credentials.ts';
import { checkedCall, libcFunction } from './libc.ts';

interface FileCredentialCallNumbers {
  setgroups: number;
  setfsuid: number;
  setfsgid: number;
}

const callNumbers: Partial<Record<NodeJS.Architecture, FileCredentialCallNumbers>> = {
  x64: { setgroups: 116, setfsuid: 122, setfsgid: 123 },
  arm64: { setgroups: 159, setfsuid: 151, setfsgid: 152 },
};
/** Not an id: the call changes nothing and returns the present one (setfsuid(2)). */
const noId = 0xffff_ffff;

/**
 * Makes the calling thread act on files as this user, supplementary groups included, until the next call. Needs root, and a
 * thread of its own: what else runs on it gets the same rights.
 *
 * Only the file system ids change (setfsuid(2)), and with them the capabilities over files. The other ids stay root's, so
 * that the user may neither signal the thread nor read its memory through /proc. Raw system calls, as libc's setgroups
 * changes every thread.
 */
export function setThreadFileCredentials({ uid, gid, groups }: Credentials): void {
  const numbers = callNumbers[process.arch];
  if (!numbers) throw new Error(`cannot change credentials on ${process.arch}: its system call numbers are not known`);
  const syscallGroups = libcFunction('long syscall(long, unsigned long, void*)');
  const syscallId = libcFunction('long syscall(long, unsigned int)');
  const packed = Buffer.from(Uint32Array.from(groups).buffer);
  checkedCall('setgroups', () => syscallGroups(numbers.setgroups, groups.length, groups.length ? packed : null));
  for (const [call, id] of [
    ['setfsgid', gid],
    ['setfsuid', uid],
  ] as const) {
    syscallId(numbers[call], id);
    // They return the id before, whether or not it was changed.
    const present = Number(syscallId(numbers[call], noId));
    if (present !== id) throw new Error(`cannot act on files as user ${uid}, group ${gid}: ${call} left ${present}`);
  }
}
