import { once } from 'node:events';
import net from 'node:net';
import { answerParent } from './child-process.ts';

/** Requests to one server, over and over, on connections that are kept. */
export interface Load {
  url: string;
  /** Whole HTTP/1.1 requests as they go over the wire, taken in turn. */
  requests: readonly string[];
  connections: number;
  durationMs: number;
  /** Ends after so many answers, if that is sooner. */
  maxAnswers?: number;
  /** The only status that counts. */
  status: number;
}

export interface LoadResult {
  /** Answers in a second. */
  rate: number;
  /** Each answer's time, in milliseconds. */
  latenciesMs: number[];
}

const tasks = {
  /** Sends as fast as answers come. Throws when one has another status. */
  async send(load: Load): Promise<LoadResult> {
    const latenciesMs: number[] = [];
    const startedAt = performance.now();
    let next = 0;
    const take = () => Buffer.from(load.requests[next++ % load.requests.length] ?? '');
    const until = startedAt + load.durationMs;
    const isOver = () => performance.now() >= until || latenciesMs.length >= (load.maxAnswers ?? Infinity);
    await Promise.all(
      Array.from({ length: load.connections }, () =>
        sendOn(load, { take, isOver, note: (ms) => latenciesMs.push(ms) }),
      ),
    );
    return { rate: latenciesMs.length / ((performance.now() - startedAt) / 1_000), latenciesMs };
  },
};
export type LoadTasks = typeof tasks;

interface Turn {
  take: () => Buffer;
  isOver: () => boolean;
  note: (ms: number) => void;
}

/** One request after the other on one connection. No client of Node's own: it would take as much of the machine as the server. */
async function sendOn({ url, status }: Load, { take, isOver, note }: Turn): Promise<void> {
  const { hostname, port } = new URL(url);
  const socket = net.connect(Number(port), hostname).setNoDelay(true);
  await once(socket, 'connect');
  const done = Promise.withResolvers<void>();
  let sentAt = 0;
  let received = Buffer.alloc(0);
  const send = () => {
    if (isOver()) return done.resolve();
    sentAt = performance.now();
    socket.write(take());
  };
  socket.on('error', done.reject);
  socket.on('close', () => done.reject(new Error('the server closed the connection')));
  socket.on('data', (chunk) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    const length = answerLength(received);
    if (length === undefined || received.length < length) return;
    if (received.toString('latin1', 9, 12) !== String(status)) {
      return done.reject(new Error(`answered ${received.toString('utf8', 0, 2_000)}`));
    }
    note(performance.now() - sentAt);
    received = received.subarray(length);
    send();
  });
  send();
  try {
    await done.promise;
  } finally {
    socket.removeAllListeners('close').destroy();
  }
}

/** Bytes of the answer that begins here, once its headers are whole. */
function answerLength(bytes: Buffer): number | undefined {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [, length = '0'] = /\r\ncontent-length: (\d+)/i.exec(bytes.toString('latin1', 0, end)) ?? [];
  return end + 4 + Number(length);
}

answerParent(tasks);
