import { toBase64 } from './base64.ts';

/** What the server says of standard input: how much the command has taken, and whether it takes more. */
export interface StdinTaken {
  taken_bytes: number;
  open: boolean;
}

/** Bytes in one frame, and those that may be on their way at once. */
const frameBytes = 128 * 1024;
const windowBytes = 512 * 1024;

/** Sends a command's standard input, no faster than the command takes it. */
export class StdinSender {
  readonly #send: (frame: object) => void;
  #sentBytes = 0;
  #takenBytes = 0;
  #isOpen = true;
  #wake: () => void = () => undefined;
  /** What the source of the input threw. */
  failure: unknown;

  constructor(send: (frame: object) => void) {
    this.#send = send;
  }

  /** Resolves when all is sent, or the command takes no more. Rejects with the source's own error. */
  async sendAll(source: string | Uint8Array | AsyncIterable<string | Uint8Array>): Promise<void> {
    if (typeof source === 'string' || source instanceof Uint8Array) await this.#sendBytes(toBytes(source));
    else {
      try {
        for await (const part of source) {
          await this.#sendBytes(toBytes(part));
          if (!this.#isOpen) return;
        }
      } catch (error) {
        this.failure = error;
        throw error;
      }
    }
    if (this.#isOpen) this.#send({ type: 'stdin', eof: true });
  }

  onTaken({ taken_bytes, open }: StdinTaken): void {
    this.#takenBytes = taken_bytes;
    if (!open) this.#isOpen = false;
    this.#wake();
  }

  /** The command is followed no longer: nothing more is sent. */
  close(): void {
    this.#isOpen = false;
    this.#wake();
  }

  async #sendBytes(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += frameBytes) {
      const part = bytes.subarray(at, at + frameBytes);
      while (this.#isOpen && this.#sentBytes + part.length - this.#takenBytes > windowBytes) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      if (!this.#isOpen) return;
      this.#sentBytes += part.length;
      this.#send({ type: 'stdin', data: toBase64(part) });
    }
  }
}

function toBytes(part: string | Uint8Array): Uint8Array {
  return typeof part === 'string' ? new TextEncoder().encode(part) : part;
}
