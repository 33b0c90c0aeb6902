import { readFileSync } from 'node:fs';
import { AppError } from '@aviary/core';
import type { Credentials } from '@aviary/linux';

/** A user of the guest, from its /etc/passwd and /etc/group. */
export interface GuestUser extends Credentials {
  name: string;
  home: string;
  shell: string;
}

/** Looks users up in the guest's own files, afresh each time: programs in the guest add users while it runs. */
export class UserDatabase {
  readonly #passwdPath: string;
  readonly #groupPath: string;

  constructor({ passwdPath = '/etc/passwd', groupPath = '/etc/group' } = {}) {
    this.#passwdPath = passwdPath;
    this.#groupPath = groupPath;
  }

  /** Throws `unauthorized` for an unknown user: the name came as a credential. */
  user(name: string): GuestUser {
    const fields = readLines(this.#passwdPath).find((line) => line[0] === name);
    if (!fields) {
      // An image may have no user database at all; root exists in any kernel.
      if (name === 'root') return { name, uid: 0, gid: 0, groups: [0], home: '/root', shell: '/bin/sh' };
      throw new AppError(
        'unauthorized',
        `there is no user ${JSON.stringify(name)} in this sandbox; create it or name another`,
      );
    }
    const [, , uid, gid, , home, shell] = fields;
    return {
      name,
      uid: Number(uid),
      gid: Number(gid),
      groups: this.#groupsOf(name, Number(gid)),
      home: home || '/',
      shell: shell || '/bin/sh',
    };
  }

  has(name: string): boolean {
    return name === 'root' || readLines(this.#passwdPath).some((line) => line[0] === name);
  }

  /** The name of a user id, or the id as text. */
  userName(uid: number): string {
    return readLines(this.#passwdPath).find((line) => Number(line[2]) === uid)?.[0] ?? String(uid);
  }

  groupName(gid: number): string {
    return readLines(this.#groupPath).find((line) => Number(line[2]) === gid)?.[0] ?? String(gid);
  }

  #groupsOf(name: string, primaryGid: number): number[] {
    const memberships = readLines(this.#groupPath)
      .filter((line) => line[3]?.split(',').includes(name))
      .map((line) => Number(line[2]));
    return [...new Set([primaryGid, ...memberships])];
  }
}

function readLines(path: string): string[][] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return text
    .split('\n')
    .map((line) => line.split(':'))
    .filter((fields) => fields.length >= 3);
}
