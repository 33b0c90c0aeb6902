import { checkedCall, libcFunction } from './libc.ts';

/** Who a process runs as: ids and supplementary groups. */
export interface Credentials {
  uid: number;
  gid: number;
  groups: readonly number[];
}

interface CredentialCallNumbers {
  setgroups: number;
  setresgid: number;
  setresuid: number;
}

const callNumbers: Partial<Record<NodeJS.Architecture, CredentialCallNumbers>> = {
  x64: { setgroups: 116, setresgid: 119, setresuid: 117 },
  arm64: { setgroups: 159, setresgid: 149, setresuid: 147 },
};

/**
 * Runs the synchronous `work` with the calling thread's credentials changed, so that a child forked in it starts as that
 * user, supplementary groups included (Node's own `uid` and `gid` options clear those). Needs root.
 *
 * Raw system calls act on this thread alone, where libc's wrappers change every thread: the rest of the process stays
 * root. The saved ids stay 0, which is the way back; a child loses them at its exec, which copies the effective id over
 * the saved one (credentials(7)). A thread that cannot get back to root must not go on: the process aborts.
 */
export function withThreadCredentials<T>({ uid, gid, groups }: Credentials, work: () => T): T {
  const numbers = callNumbers[process.arch];
  if (!numbers) throw new Error(`cannot change credentials on ${process.arch}: its system call numbers are not known`);
  const syscallGroups = libcFunction('long syscall(long, unsigned long, void*)');
  const syscallIds = libcFunction('long syscall(long, unsigned int, unsigned int, unsigned int)');
  const setGroups = (list: readonly number[]) => {
    const packed = Buffer.from(Uint32Array.from(list).buffer);
    checkedCall('setgroups', () => syscallGroups(numbers.setgroups, list.length, list.length ? packed : null));
  };
  const setIds = (call: 'setresgid' | 'setresuid', id: number) =>
    checkedCall(call, () => syscallIds(numbers[call], id, id, 0));
  const ownGroups = process.getgroups?.() ?? [];
  try {
    setGroups(groups);
    setIds('setresgid', gid);
    setIds('setresuid', uid);
    return work();
  } finally {
    try {
      setIds('setresuid', 0);
      setIds('setresgid', 0);
      setGroups(ownGroups);
    } catch {
      process.abort();
    }
  }
}
