import { statSync } from 'node:fs';
import { AppError } from '@aviary/core';
import { resolvePath } from '../files/resolve-path.ts';
import type { SandboxSettings } from '../sandbox-settings.ts';
import type { GuestUser } from '../users/user-database.ts';
import { processEnvironment } from './process-environment.ts';
import type { ProcessStart } from './process-registry.ts';

/** A command as a client names it. */
export interface CommandConfig {
  cmd: string;
  args: readonly string[];
  envs: Readonly<Record<string, string>>;
  cwd?: string | undefined;
}

/** What starts `config` as `user`. Throws `invalid_request` for what no process can have, naming the variable. */
export function prepareLaunch(
  { cmd, args, envs, cwd }: CommandConfig,
  user: GuestUser,
  settings: SandboxSettings,
): Pick<ProcessStart['description'], 'command' | 'args' | 'envs' | 'cwd'> & { launch: ProcessStart['launch'] } {
  if ([cmd, ...args, cwd ?? ''].some((value) => value.includes('\0'))) {
    throw new AppError('invalid_request', 'cannot start a process: command and arguments cannot hold NUL bytes');
  }
  for (const [name, value] of Object.entries(envs)) {
    if (name !== '' && !/[=\0]/.test(name) && !value.includes('\0')) continue;
    throw new AppError(
      'invalid_request',
      `cannot set the environment variable ${JSON.stringify(name)}: a name cannot be empty or hold "=", and neither it nor its value a NUL byte`,
      { details: { field: 'envs' } },
    );
  }
  return {
    command: cmd,
    args,
    envs,
    cwd,
    launch: {
      command: cmd,
      args,
      env: processEnvironment(user, settings.envVars, envs),
      cwd: cwd ? resolvePath(cwd, user) : (settings.defaultWorkdir ?? homeOrRoot(user)),
      user,
    },
  };
}

/** Users that only run programs often have a home that nobody made. */
function homeOrRoot({ home }: GuestUser): string {
  try {
    return statSync(home).isDirectory() ? home : '/';
  } catch {
    return '/';
  }
}
