import { checkedCall, libcFunction } from './libc.ts';

const PR_SET_CHILD_SUBREAPER = 36;

/** Makes this process adopt orphaned descendants, so that it sees when they end. */
export function becomeSubreaper(): void {
  const prctl = libcFunction('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)');
  checkedCall('prctl', () => prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 'PR_SET_CHILD_SUBREAPER');
}
