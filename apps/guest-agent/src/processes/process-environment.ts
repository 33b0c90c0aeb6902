import type { GuestUser } from '../users/user-database.ts';

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** A process's environment: the user's basics, then the sandbox's variables, then the request's; later ones win. */
export function processEnvironment(
  user: GuestUser,
  ...layers: readonly Readonly<Record<string, string>>[]
): Record<string, string> {
  const basics = {
    PATH: defaultPath,
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    SHELL: user.shell,
    // Without one, programs take text for ASCII and refuse the rest.
    LANG: 'C.UTF-8',
  };
  return Object.assign(basics, ...layers);
}
