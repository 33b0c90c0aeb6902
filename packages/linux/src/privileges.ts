import { checkedCall, libcFunction } from './libc.ts';

const PR_CAPBSET_READ = 23;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;

/**
 * Bars what the calling thread starts from now on from any privilege: no capability can be gained in an exec, by whichever program. The thread keeps what
 * it has itself. There is no way back. See capabilities(7), "bounding set".
 */
export function barChildrenFromPrivileges(): void {
  const prctl = libcFunction('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)');
  // The kernel says where its list of capabilities ends.
  for (let capability = 0; Number(prctl(PR_CAPBSET_READ, capability, 0, 0, 0)) >= 0; capability++)
    checkedCall('prctl', () => prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), 'PR_CAPBSET_DROP');
  checkedCall('prctl', () => prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), 'PR_CAP_AMBIENT');
  checkedCall('prctl', () => prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 'PR_SET_NO_NEW_PRIVS');
}
