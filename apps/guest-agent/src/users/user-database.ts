import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { AppError } from '@aviary/core';
import type { Credentials } from '@aviary/linux';

/** A user of the guest, from its /etc/passwd and /etc/group. */
export interface GuestUser extends Credentials {
  name: string;
  home: string;
  shell: string;
}

/** The names of user and group ids, as they were when this was asked for. */
export interface IdNames {
  /** The name of a user id, or the id as text. */
  user: (uid: number) => string;
  /** The name of a group id, or the id as text. */
  group: (gid: number) => string;
}

const maxId = 0xffff_fffe;

/** Looks users up in the guest's own files, afresh each time: programs in the guest add users while it runs. */
export class UserDatabase {
  readonly #passwdPath: string;
  readonly #groupPath: string;

  constructor({ passwdPath = '/etc/passwd', groupPath = '/etc/group' } = {}) {
    this.#passwdPath = passwdPath;
    this.#groupPath = groupPath;
  }

  /**
   * A user by name or by numeric id, either with `:` and a group, by name or id too; an id that nobody has is a user without a name and
   * a home. Throws `unauthorized` for an unknown one: the name came as a credential.
   */
  user(text: string): GuestUser {
    const [name = '', group] = text.split(':', 2);
    const user = this.#user(name);
    if (group === undefined) return user;
    const named = readLines(this.#groupPath).find((line) => line[0] === group)?.[2];
    if (named === undefined && !isId(group)) {
      throw new AppError('unauthorized', `there is no group ${JSON.stringify(group)} in this sandbox; create it first`);
    }
    const gid = Number(named ?? group);
    return { ...user, gid, groups: [gid] };
  }

  #user(name: string): GuestUser {
    const users = readLines(this.#passwdPath);
    const fields =
      users.find((line) => line[0] === name) ??
      (isId(name) ? users.find((line) => line[2] === String(Number(name))) : undefined);
    if (!fields) {
      // An image may have no user database at all; root exists in any kernel.
      if (name === 'root') return { name, uid: 0, gid: 0, groups: [0], home: '/root', shell: '/bin/sh' };
      if (isId(name)) {
        const id = Number(name);
        return { name: String(id), uid: id, gid: id, groups: [id], home: '/', shell: '/bin/sh' };
      }
      throw new AppError(
        'unauthorized',
        `there is no user ${JSON.stringify(name)} in this sandbox; create it or name another`,
      );
    }
    const [found = name, , uid, gid, , home, shell] = fields;
    return {
      name: found,
      uid: Number(uid),
      gid: Number(gid),
      groups: this.#groupsOf(found, Number(gid)),
      home: home || '/',
      shell: shell || '/bin/sh',
    };
  }

  has(name: string): boolean {
    return name === 'root' || readLines(this.#passwdPath).some((line) => line[0] === name);
  }

  /** Reads both files once, for an answer that names many ids. */
  names(): IdNames {
    const users = namesById(readLines(this.#passwdPath));
    const groups = namesById(readLines(this.#groupPath));
    return { user: (uid) => users.get(uid) ?? String(uid), group: (gid) => groups.get(gid) ?? String(gid) };
  }

  #groupsOf(name: string, primaryGid: number): number[] {
    const memberships = readLines(this.#groupPath)
      .filter((line) => line[3]?.split(',').includes(name))
      .map((line) => Number(line[2]));
    return [...new Set([primaryGid, ...memberships])];
  }
}

function isId(name: string): boolean {
  return /^\d{1,10}$/.test(name) && Number(name) <= maxId;
}

/** The first line of an id gives its name, as in the C library. */
function namesById(lines: readonly string[][]): Map<number, string> {
  return new Map(lines.map(([name = '', , id]) => [Number(id), name] as const).reverse());
}

/** What is not a regular file counts as empty: opened as usual, a FIFO in its place would stop the agent for good. */
function readLines(path: string): string[][] {
  let text = '';
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    try {
      if (fstatSync(fd).isFile()) text = readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return text
    .split('\n')
    .map((line) => line.split(':'))
    .filter((fields) => fields.length >= 3);
}
