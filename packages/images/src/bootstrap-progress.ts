/** How far a bootstrap is: `done` from 0 to 1, growing; `detail` for people. */
export interface BootstrapState {
  detail: string;
  done: number;
}

interface Phase {
  /** Begins the line that both programs write when the phase starts. */
  mark: RegExp;
  detail: string;
  /** Where in the whole bootstrap the phase starts and ends, by the time it takes. */
  from: number;
  to: number;
}

/** In the order of their coming: mmdebstrap's, and debootstrap's where it stands in. */
const phases: readonly Phase[] = [
  { mark: /^I: (?:running apt-get update|Target architecture)/, detail: 'reading package lists', from: 0, to: 0.08 },
  { mark: /^I: (?:downloading packages|Retrieving )/, detail: 'downloading packages', from: 0.08, to: 0.13 },
  { mark: /^I: (?:extracting archives|Extracting )/, detail: 'unpacking the base system', from: 0.13, to: 0.2 },
  { mark: /^I: (?:installing essential|Installing core)/, detail: 'installing the base system', from: 0.2, to: 0.4 },
  { mark: /^I: (?:installing remaining|Unpacking the base)/, detail: 'installing packages', from: 0.4, to: 0.98 },
  { mark: /^I: (?:cleaning package|Base system installed)/, detail: 'cleaning up', from: 0.98, to: 1 },
];

/**
 * Reads what mmdebstrap (with --verbose) or debootstrap prints, and tells it in this program's words. Within a phase each
 * package counts twice, once unpacked and once set up; how many there are apt says beforehand.
 */
export class BootstrapProgress {
  readonly #onChange: (state: BootstrapState) => void;
  #phase = -1;
  #packages = 0;
  #seen = 0;
  #percent = -1;
  #rest = '';

  constructor(onChange: (state: BootstrapState) => void) {
    this.#onChange = onChange;
  }

  read(output: string): void {
    const lines = (this.#rest + output).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#readLine(line.trim());
  }

  #readLine(line: string): void {
    const phase = phases.findIndex(({ mark }) => mark.test(line));
    if (phase > this.#phase) {
      this.#phase = phase;
      this.#seen = 0;
      this.#tell(true);
      return;
    }
    const announced = /^\d+ upgraded, (\d+) newly installed/.exec(line)?.[1];
    if (announced !== undefined) this.#packages = Number(announced);
    if (!/^(?:I: )?(?:Unpacking|Setting up|Configuring) \S+/.test(line)) return;
    this.#seen++;
    this.#tell(false);
  }

  #tell(isNewPhase: boolean): void {
    const phase = phases[this.#phase];
    if (!phase) return;
    const share = this.#packages === 0 ? 0 : Math.min(1, this.#seen / (2 * this.#packages));
    const done = phase.from + share * (phase.to - phase.from);
    const percent = Math.floor(done * 100);
    if (!isNewPhase && percent <= this.#percent) return;
    this.#percent = percent;
    this.#onChange({ detail: phase.detail, done });
  }
}
