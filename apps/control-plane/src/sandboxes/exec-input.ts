import { AppError, execLimits, toAppError } from '@aviary/core';
import { decodeBase64 } from './base64.ts';

/** A `stdin` frame. */
export interface StdinFrame {
  data?: string;
  text?: string;
  eof?: boolean;
}

export interface ExecInputDeps {
  /** Resolves when the command has taken the bytes; with false when it takes no more. */
  write: (input: { pid: number; data: Uint8Array; eof: boolean }) => Promise<boolean>;
  onTaken: (taken: { taken_bytes: number; open: boolean }) => void;
  onError: (error: AppError) => void;
}

/**
 * Standard input of one command: frames in the order they came, each as the command takes it. The client is told, so that it need not send
 * faster; what is not taken yet has a limit here.
 */
export class ExecInput {
  readonly #deps: ExecInputDeps;
  readonly #signal: AbortSignal;
  readonly #start = Promise.withResolvers<number>();
  #last: Promise<void> = Promise.resolve();
  #pendingBytes = 0;
  #takenBytes = 0;
  #isOpen = true;

  constructor(deps: ExecInputDeps, signal: AbortSignal) {
    this.#deps = deps;
    this.#signal = signal;
  }

  /** The command runs: what came until now goes to it. */
  begin(pid: number): void {
    this.#start.resolve(pid);
  }

  add({ data, text, eof = false }: StdinFrame): void {
    if (data !== undefined && text !== undefined) {
      this.#deps.onError(new AppError('invalid_request', 'a stdin frame has `data` or `text`, not both'));
      return;
    }
    let bytes: Buffer;
    try {
      bytes = data === undefined ? Buffer.from(text ?? '') : decodeBase64('data', data);
    } catch (error) {
      this.#deps.onError(toAppError(error));
      return;
    }
    if (this.#pendingBytes + bytes.byteLength > execLimits.maxStdinBytes) {
      this.#deps.onError(
        new AppError('rate_limited', 'the command does not read its input as fast as it comes: this frame is dropped'),
      );
      return;
    }
    this.#pendingBytes += bytes.byteLength;
    this.#last = this.#last.then(() => this.#write(bytes, eof));
  }

  async #write(data: Buffer, eof: boolean): Promise<void> {
    const pid = await this.#start.promise;
    try {
      if (this.#isOpen && !this.#signal.aborted) this.#isOpen = await this.#deps.write({ pid, data, eof });
    } catch (error) {
      this.#isOpen = false;
      if (!this.#signal.aborted) this.#deps.onError(toAppError(error));
    }
    this.#pendingBytes -= data.byteLength;
    this.#takenBytes += data.byteLength;
    if (!this.#signal.aborted) this.#deps.onTaken({ taken_bytes: this.#takenBytes, open: this.#isOpen });
  }
}
