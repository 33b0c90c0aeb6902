import { constants } from 'node:os';

/** The name of a signal number; null for 0, which means none. */
export function signalName(number: number | undefined): NodeJS.Signals | null {
  if (!number) return null;
  const entry = Object.entries(constants.signals).find(([, value]) => value === number);
  return (entry?.[0] as NodeJS.Signals | undefined) ?? 'SIGKILL';
}
