import { constants } from 'node:os';

/** How a process ended, as E2B's SDKs read it. */
export interface ExitStatus {
  /** -1 when a signal ended it. */
  exitCode: number;
  isExited: boolean;
  /** The signal that ended it. */
  signal: NodeJS.Signals | null;
  /** `exit status 3`, `signal: killed`. */
  text: string;
}

const signalTexts: Partial<Record<NodeJS.Signals, string>> = {
  SIGHUP: 'hangup',
  SIGINT: 'interrupt',
  SIGQUIT: 'quit',
  SIGILL: 'illegal instruction',
  SIGTRAP: 'trace/breakpoint trap',
  SIGABRT: 'aborted',
  SIGBUS: 'bus error',
  SIGFPE: 'floating point exception',
  SIGKILL: 'killed',
  SIGUSR1: 'user defined signal 1',
  SIGSEGV: 'segmentation fault',
  SIGUSR2: 'user defined signal 2',
  SIGPIPE: 'broken pipe',
  SIGALRM: 'alarm clock',
  SIGTERM: 'terminated',
};

export function exitStatus(code: number | null, signal: NodeJS.Signals | null): ExitStatus {
  if (signal === null) return { exitCode: code ?? -1, isExited: true, signal, text: `exit status ${code ?? -1}` };
  const text = signalTexts[signal] ?? signal.toLowerCase();
  return { exitCode: -1, isExited: false, signal, text: `signal: ${text}` };
}

/** The exit code as a shell gives it: 128 and its number for a signal. */
export function shellExitCode({ exitCode, signal }: ExitStatus): number {
  return signal === null ? exitCode : 128 + constants.signals[signal];
}
