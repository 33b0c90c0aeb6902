import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { AppError } from '@aviary/core';

/** Longest from the start of a connection to the guest's proof. */
const proofTimeoutMs = 10_000;
const maxAnswerBytes = 4_096;

/** As a guest keeps a host token. */
export function sha256Hex(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** What a guest that holds the digest of `hostToken` answers to `nonce`. */
export function guestProof(hostToken: string, nonce: string): Buffer {
  const digest = createHash('sha256').update(hostToken).digest();
  return createHmac('sha256', digest).update(`aviary-guest-proof-1:${nonce}`).digest();
}

/**
 * Connections to one guest that are used only after it has proved, on each of them, that it knows the digest of one of the host tokens: the
 * microVM at the other end was started or told by this host. A secret never goes to anybody else, however an address was mixed up, and
 * a wrong guest learns nothing but a nonce.
 */
export class ProvenAgent extends http.Agent {
  readonly #hostTokens: () => readonly string[];

  constructor({ hostTokens, ...options }: http.AgentOptions & { hostTokens: () => readonly string[] }) {
    super(options);
    this.#hostTokens = hostTokens;
  }

  override createConnection(
    options: net.NetConnectOpts,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    const socket = net.connect(options);
    socket.setNoDelay(true);
    prove(socket, this.#hostTokens()).then(
      () => callback?.(null, socket),
      (error: Error) => {
        socket.destroy();
        callback?.(error, socket);
      },
    );
  }
}

async function prove(socket: net.Socket, hostTokens: readonly string[]): Promise<void> {
  const nonce = randomBytes(32).toString('hex');
  const answer = await ask(socket, `GET /proof?nonce=${nonce} HTTP/1.1\r\nHost: guest\r\n\r\n`);
  const proof = Buffer.from(/^x-aviary-proof: ([0-9a-f]{64})\r$/im.exec(answer)?.[1] ?? '', 'hex');
  const isProven = hostTokens.some((token) => {
    const expected = guestProof(token, nonce);
    return proof.length === expected.length && timingSafeEqual(proof, expected);
  });
  if (!isProven)
    throw new AppError('guest_unavailable', 'what answers at the guest’s address did not prove that it is this guest');
}

/** Sends a request without a body and resolves with the head of the answer, which has none either. */
function ask(socket: net.Socket, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const settle = (error?: Error) => {
      clearTimeout(timer);
      socket.removeListener('data', onData).removeListener('error', settle).removeListener('close', onClose);
      if (error) reject(error);
      else resolve(answer);
    };
    const onData = (chunk: Buffer) => {
      answer += chunk.toString('latin1');
      if (answer.endsWith('\r\n\r\n')) settle();
      else if (answer.length > maxAnswerBytes) settle(new Error('the proof is longer than it may be'));
    };
    const onClose = () => settle(new Error('the connection ended before a proof'));
    const timer = setTimeout(() => settle(new Error(`no proof within ${proofTimeoutMs} ms`)), proofTimeoutMs);
    socket.on('data', onData).on('error', settle).on('close', onClose);
    socket.write(request);
  });
}
