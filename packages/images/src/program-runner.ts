import { type ProgramResult, type RunProgramOptions, runProgram } from '@aviary/service-kit';

/** The boundary to external programs, so that planning and caching are tested without them. */
export type ProgramRunner = (
  file: string,
  args: readonly string[],
  options?: RunProgramOptions,
) => Promise<ProgramResult>;

const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Runs programs that die with this process, whatever ends it: a killed build leaves nobody writing into its directories
 * (PR_SET_PDEATHSIG survives execve, so setpriv sets it for the program). They see the administrator's search path, plain
 * messages, and no SOURCE_DATE_EPOCH; the rest of the environment, a proxy for one, is passed on.
 */
export const boundRunner: ProgramRunner = (file, args, options) =>
  runProgram(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', '--', 'env', '-u', 'SOURCE_DATE_EPOCH'],
      ...[`PATH=${searchPath}`, 'LC_ALL=C.UTF-8', 'DEBIAN_FRONTEND=noninteractive'],
      ...[file, ...args],
    ],
    options,
  );
