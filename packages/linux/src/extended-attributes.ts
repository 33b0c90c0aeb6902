import { checkedCall, libcFunction } from './libc.ts';

/** The kernel's bounds: XATTR_LIST_MAX and XATTR_SIZE_MAX. */
const maxBytes = 65_536;

/** Sets one extended attribute. Throws `ENOTSUP` where the file system has none. */
export function setExtendedAttribute(path: string, name: string, value: string): void {
  const setxattr = libcFunction('int setxattr(const char*, const char*, const void*, size_t, int)');
  const bytes = Buffer.from(value);
  checkedCall('setxattr', () => setxattr(path, name, bytes, bytes.length, 0), path);
}

/** The extended attributes whose names start with `prefix`, by full name; empty where the file system has none. Does not follow a link. */
export function readExtendedAttributes(path: string, prefix: string): Record<string, string> {
  const llistxattr = libcFunction('long llistxattr(const char*, void*, size_t)');
  const found: Record<string, string> = {};
  try {
    // Asked for the size alone first: nearly every file answers 0 and needs no buffer.
    const listBytes = checkedCall('llistxattr', () => llistxattr(path, null, 0), path);
    if (listBytes === 0) return found;
    const list = Buffer.alloc(Math.min(maxBytes, listBytes + 1_024));
    const used = checkedCall('llistxattr', () => llistxattr(path, list, list.length), path);
    const names = list
      .toString('utf8', 0, used)
      .split('\0')
      .filter((name) => name.startsWith(prefix));
    if (names.length === 0) return found;
    const lgetxattr = libcFunction('long lgetxattr(const char*, const char*, void*, size_t)');
    const value = Buffer.alloc(maxBytes);
    for (const name of names) {
      const length = checkedCall('lgetxattr', () => lgetxattr(path, name, value, value.length), path);
      found[name] = value.toString('utf8', 0, length);
    }
    return found;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTSUP' || code === 'EOPNOTSUPP' || code === 'ENOENT' || code === 'ENODATA') return found;
    throw error;
  }
}

/** Copies the attributes that `isWanted` names from one file to another, as bytes. Those that the file system does not take are left out. */
export function copyExtendedAttributes(from: string, to: string, isWanted: (name: string) => boolean): void {
  const listxattr = libcFunction('long listxattr(const char*, void*, size_t)');
  const getxattr = libcFunction('long getxattr(const char*, const char*, void*, size_t)');
  const setxattr = libcFunction('int setxattr(const char*, const char*, const void*, size_t, int)');
  const list = Buffer.alloc(maxBytes);
  const used = Number(listxattr(from, list, list.length));
  if (used <= 0) return;
  const value = Buffer.alloc(maxBytes);
  for (const name of list.toString('utf8', 0, used).split('\0')) {
    if (name === '' || !isWanted(name)) continue;
    const length = Number(getxattr(from, name, value, value.length));
    if (length >= 0) setxattr(to, name, value, length, 0);
  }
}
