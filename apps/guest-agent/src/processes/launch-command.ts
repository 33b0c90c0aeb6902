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

/** The programs of the agent's own that start a user's, as argument arrays. */
export interface Launcher {
  shell: readonly string[];
  /** env(1). */
  env: readonly string[];
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

/** The argument array that starts `request`. Throws when there is no such program, or none that can be executed. */
export function launcherArguments(
  { shell, env }: Launcher,
  request: LaunchRequest,
  joins: 'by-descriptor' | 'when-moved',
): string[] {
  // A shell drops variables whose names it could not write, so those come into being after it.
  const unwritable = Object.entries(request.env).filter(([name]) => !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
  const program = [
    ...(unwritable.length > 0 ? [...env, ...unwritable.map(([name, value]) => `${name}=${value}`)] : []),
    findProgram(request),
    ...request.args,
  ];
  if (!request.group) return [...shell, '-c', becomeProgram, 'launch', ...program];
  if (joins === 'by-descriptor') return [...shell, '-c', `${joinByDescriptor} ${becomeProgram}`, 'launch', ...program];
  return [...shell, '-c', `${waitForGroup} ${becomeProgram}`, 'launch', request.group.pathSuffix, ...program];
}

/** The program's path. Looked up here, so that a missing one is an error of the request and not an exit code. */
function findProgram({ command, env, cwd }: LaunchRequest): string {
  if (command === '') throw new AppError('invalid_request', 'cannot start a process: no command was given');
  const candidates = command.includes('/')
    ? [isAbsolute(command) ? command : join(cwd, command)]
    : (env['PATH'] ?? '').split(':').map((directory) => join(directory || cwd, command));
  const found = candidates.find((path) => programKind(path) === 'program');
  if (found !== undefined) return found;
  // E2B's SDKs name bash whatever the image holds; any POSIX shell takes the arguments they give it.
  if (command === '/bin/bash' && programKind('/bin/sh') === 'program') return '/bin/sh';
  const what = `cannot start ${JSON.stringify(command)}`;
  const kinds = candidates.map(programKind);
  const details = { command };
  if (kinds.includes('file'))
    throw new AppError('forbidden', `${what}: permission denied: not executable`, { details });
  if (command.includes('/') && kinds.includes('directory'))
    throw new AppError('forbidden', `${what}: permission denied: it is a directory`, { details });
  throw new AppError('not_found', `${what}: no such program in this sandbox`, { details });
}

function programKind(path: string): 'program' | 'file' | 'directory' | 'absent' {
  try {
    if (statSync(path).isDirectory()) return 'directory';
  } catch {
    return 'absent'; // whatever the reason: the search goes on
  }
  try {
    accessSync(path, constants.X_OK);
    return 'program';
  } catch {
    return 'file';
  }
}

/** Throws `invalid_request` unless `cwd` is a directory: chdir's own error would name the program instead. */
export function checkWorkingDirectory(cwd: string): void {
  if (statSync(cwd, { throwIfNoEntry: false })?.isDirectory()) return;
  throw new AppError('invalid_request', `cannot start a process in ${JSON.stringify(cwd)}: no such directory`, {
    details: { cwd },
  });
}
