import { checkedCall, libcFunction } from './libc.ts';

/** Sets the machine's host name. Needs CAP_SYS_ADMIN. */
export function setHostName(name: string): void {
  const sethostname = libcFunction('int sethostname(const char*, size_t)');
  checkedCall('sethostname', () => sethostname(name, Buffer.byteLength(name)), name);
}
