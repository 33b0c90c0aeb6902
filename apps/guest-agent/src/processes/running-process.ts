import type { ExitStatus } from './exit-status.ts';
import type { OutputStream } from './output-log.ts';

/** What a started process tells its owner. `onExit` comes once, after the last `onOutput`. */
export interface ProcessListener {
  onOutput(stream: OutputStream, bytes: Buffer): void;
  onExit(status: ExitStatus): void;
}

/** A process that was started, behind pipes or a terminal. */
export interface RunningProcess {
  readonly pid: number;
  readonly hasTerminal: boolean;
  /** Resolves when the kernel has taken the bytes. Rejects when the input is closed. */
  write(bytes: Uint8Array): Promise<void>;
  /** Input bytes the process has not taken yet. */
  readonly pendingInputBytes: number;
  closeInput(): void;
  resize(size: { cols: number; rows: number }): void;
  /** Signals the process alone; false when it has ended. */
  signal(signal: NodeJS.Signals): boolean;
  /** Stops and restarts the flow of output: the process waits once its pipe is full. */
  pauseOutput(): void;
  resumeOutput(): void;
}
