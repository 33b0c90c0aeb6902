import { AppError } from '@aviary/core';
import { type FaultName, isFaultName, similarFaultNames } from './fault-names.ts';

/**
 * Named places where a test can make the process die or fail, e.g. `AVIARY_FAULT=pause.before-manifest:kill`.
 * Actions: `kill` (SIGKILL to itself, as a crash would), `throw` (an error, default), `enospc` (a full disk),
 * `hang` (never returns). `name:action@N` acts on the Nth pass only.
 */
export type FaultAction = 'kill' | 'throw' | 'enospc' | 'hang';

export class FaultPoints {
  readonly #name: FaultName | undefined;
  readonly #action: FaultAction;
  #remaining: number;

  /**
   * `setting` is the text of AVIARY_FAULT; undefined makes every point free of effect. Throws `invalid_request` for a text that names no
   * point of any service: a test that injects nothing would pass for the wrong reason.
   */
  constructor(setting?: string) {
    const { name, action, pass } = parseSetting(setting);
    this.#name = name;
    this.#action = action;
    this.#remaining = pass;
  }

  /** Marks the place called `name`. */
  async hit(name: FaultName): Promise<void> {
    if (name !== this.#name || --this.#remaining !== 0) return;
    switch (this.#action) {
      case 'kill':
        process.kill(process.pid, 'SIGKILL');
        await new Promise(() => undefined);
        return;
      case 'hang':
        await new Promise(() => undefined);
        return;
      case 'enospc':
        throw Object.assign(new Error(`ENOSPC: no space left on device (injected at ${name})`), { code: 'ENOSPC' });
      case 'throw':
        throw new Error(`fault injected at ${name}`);
    }
  }
}

function parseSetting(setting: string | undefined): { name: FaultName | undefined; action: FaultAction; pass: number } {
  if (setting === undefined || setting === '') return { name: undefined, action: 'throw', pass: 1 };
  const [, name, action = 'throw', pass = '1'] =
    /^([a-z0-9._-]+)(?::(kill|throw|enospc|hang))?(?:@([1-9]\d*))?$/.exec(setting) ?? [];
  if (name === undefined)
    throw refused(`${JSON.stringify(setting)} is not of the form NAME[:kill|throw|enospc|hang][@PASS]`);
  if (isFaultName(name)) return { name, action: action as FaultAction, pass: Number(pass) };
  const similar = similarFaultNames(name);
  throw refused(`there is no fault point ${name}${similar.length > 0 ? `; there is ${similar.join(', ')}` : ''}`);
}

function refused(problem: string): AppError {
  return new AppError('invalid_request', `AVIARY_FAULT: ${problem}`, { details: { field: 'AVIARY_FAULT' } });
}
