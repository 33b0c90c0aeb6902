/**
 * Named places where a test can make the process die or fail, e.g. `AVIARY_FAULT=pause.before-manifest:kill`.
 * Actions: `kill` (SIGKILL to itself, as a crash would), `throw` (an error, default), `enospc` (a full disk),
 * `hang` (never returns). `name:action@N` acts on the Nth pass only.
 */
export type FaultAction = 'kill' | 'throw' | 'enospc' | 'hang';

export class FaultPoints {
  readonly #name: string | undefined;
  readonly #action: FaultAction;
  #remaining: number;

  /** `setting` is the text of AVIARY_FAULT; undefined makes every point free of effect. */
  constructor(setting?: string) {
    const [, name, action = 'throw', pass = '1'] =
      /^([a-z0-9.-]+)(?::(kill|throw|enospc|hang))?(?:@(\d+))?$/.exec(setting ?? '') ?? [];
    this.#name = name;
    this.#action = action as FaultAction;
    this.#remaining = Number(pass);
  }

  /** Marks the place called `name`. */
  async hit(name: string): Promise<void> {
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
