import koffi from 'koffi';

const namesByNumber = new Map(Object.entries(koffi.os.errno).map(([name, number]) => [number, name]));

/** An error for a failed kernel call, shaped as Node's own: `code` is the symbolic name, `errno` negative. */
export function kernelError(what: string, errno: number): NodeJS.ErrnoException {
  const code = namesByNumber.get(errno) ?? `errno ${errno}`;
  return Object.assign(new Error(`${code}: cannot ${what}`), { code, errno: -errno });
}
