import { accessSync, constants, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { AppError } from '@aviary/core';
import type { GuestUser } from '../users/user-database.ts';
import type { ProcessGroup } from './user-cgroup.ts';

/** Everything that decides how a user's program is started. */
export interface LaunchRequest {
  command: string;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  cwd: string;
  user: GuestUser;
  group: ProcessGroup | undefined;
}

/** What the kernel's out-of-memory killer adds to a user's process: it goes long before the agent. */
const userOomScoreAdj = 300;

/**
 * The launcher: a shell that moves itself into the process's group (descriptor 3 is its member list), lets go of the
 * agent's protection, and becomes the program: one exec, no fork. Nothing of the user's is in its text.
 */
const joinByDescriptor = 'echo 0 >&3 || exit 126; exec 3>&-;';
/** A terminal passes no descriptor: the agent moves the launcher, which waits until it sees itself there. */
const waitForGroup =
  'joined() { while read -r line; do case $line in 0::*"$g") return 0;; esac; done </proc/self/cgroup; return 1; }; ' +
  'g=$1; shift; n=0; until joined; do n=$((n+1)); [ $n -gt 100000 ] && exit 126; done;';
const becomeProgram = `echo ${userOomScoreAdj} >/proc/self/oom_score_adj; exec "$@"`;

/** The argument array that starts `request` through `shell`. */
export function launcherArguments(
  shell: readonly string[],
  request: LaunchRequest,
  joins: 'by-descriptor' | 'when-moved',
): string[] {
  const program = [findProgram(request), ...request.args];
  if (!request.group) return [...shell, '-c', becomeProgram, 'launch', ...program];
  if (joins === 'by-descriptor') return [...shell, '-c', `${joinByDescriptor} ${becomeProgram}`, 'launch', ...program];
  return [...shell, '-c', `${waitForGroup} ${becomeProgram}`, 'launch', request.group.pathSuffix, ...program];
}

/** The program's path. Looked up here, so that a missing one is an error of the request and not exit code 127. */
function findProgram({ command, env, cwd }: LaunchRequest): string {
  if (command === '') throw new AppError('invalid_request', 'cannot start a process: no command was given');
  if (command.includes('/')) {
    const path = isAbsolute(command) ? command : join(cwd, command);
    if (isExecutable(path)) return path;
    // E2B's SDKs name bash whatever the image holds; any POSIX shell takes the arguments they give it.
    if (path === '/bin/bash' && isExecutable('/bin/sh')) return '/bin/sh';
  } else {
    for (const directory of (env['PATH'] ?? '').split(':')) {
      const path = join(directory || cwd, command);
      if (isExecutable(path)) return path;
    }
  }
  throw new AppError('not_found', `cannot start ${JSON.stringify(command)}: no such program in this sandbox`, {
    details: { command },
  });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false; // absent and not executable mean the same to the search
  }
}

/** Throws `invalid_request` unless `cwd` is a directory: chdir's own error would name the program instead. */
export function checkWorkingDirectory(cwd: string): void {
  if (statSync(cwd, { throwIfNoEntry: false })?.isDirectory()) return;
  throw new AppError('invalid_request', `cannot start a process in ${JSON.stringify(cwd)}: no such directory`, {
    details: { cwd },
  });
}
