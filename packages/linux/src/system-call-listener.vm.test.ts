import { once } from 'node:events';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { SystemCallListener } from './system-call-listener.ts';
import type { TestThreadMessage, TestThreadTask } from './test-held-calls-thread.ts';

const signal = 'SIGUSR2';

function startTask(workerData: TestThreadTask): Worker {
  return new Worker(new URL('./test-held-calls-thread.ts', import.meta.url), {
    workerData,
    trackUnmanagedFds: false,
  });
}

async function nextMessage(worker: Worker): Promise<TestThreadMessage> {
  return (await once(worker, 'message'))[0] as TestThreadMessage;
}

it('answers each open with the file, however often a signal interrupts the answer', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'listener-'));
  const file = path.join(directory, 'file');
  await writeFile(file, '');
  await using handle = await open(file, 'r');
  const { ino } = await handle.stat();
  // As the ends of children do, whose signal this process hears.
  const interrupted = Promise.withResolvers<void>();
  const onSignal = () => interrupted.resolve();
  process.on(signal, onSignal);
  const signaller = startTask({ signalMain: signal });
  await interrupted.promise;
  const opener = startTask({ open: file, ino, count: 1_000 });
  try {
    const first = await nextMessage(opener);
    if (!('listenerFd' in first)) throw new Error('it opened files before they could be answered');
    const listener = new SystemCallListener(first.listenerFd);
    let last: TestThreadMessage | undefined;
    const end = nextMessage(opener).then((message) => {
      last = message;
    });
    try {
      while (!last) {
        await listener.wait(20);
        for (let held = listener.receive(); held; held = listener.receive())
          listener.answerWithDescriptor(held, handle.fd);
      }
    } finally {
      listener.close();
    }
    await end;
    expect(last).toEqual({ wrong: [] });
  } finally {
    await Promise.all([opener.terminate(), signaller.terminate()]);
    process.off(signal, onSignal);
    await rm(directory, { recursive: true });
  }
});
