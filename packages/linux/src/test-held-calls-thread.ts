import { closeSync, fstatSync, readlinkSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { libcFunction } from './libc.ts';
import { barChildrenFromPrivileges } from './privileges.ts';
import { holdSystemCalls } from './system-call-listener.ts';

/** For tests: what each thread does. */
export type TestThreadTask = { open: string; ino: number; count: number } | { signalMain: NodeJS.Signals };

/** Of a thread that opens: the listener for its calls; then what it got that was not the file, each once. */
export type TestThreadMessage = { listenerFd: number } | { wrong: string[] };

const O_RDWR = 2;
const task = workerData as TestThreadTask;
if ('open' in task) openInTurn(task);
else signalMain(task.signalMain);

/** Often, and with time for the other thread to do something in between. */
function signalMain(signal: NodeJS.Signals): never {
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    process.kill(process.pid, signal);
    Atomics.wait(never, 0, 0, 1);
  }
}

function openInTurn({ open: file, ino, count }: { open: string; ino: number; count: number }): void {
  // The kernel lets nobody filter calls who could gain privileges after that.
  barChildrenFromPrivileges();
  const open = libcFunction('int open(const char*, int)');
  const send = (message: TestThreadMessage) => parentPort?.postMessage(message);
  send({ listenerFd: holdSystemCalls() });
  const wrong = new Set<string>();
  for (let turn = 0; turn < count; turn++) {
    const fd = Number(open(file, O_RDWR));
    if (fd >= 0 && fstatSync(fd).ino === ino) closeSync(fd);
    else wrong.add(fd < 0 ? 'nothing' : `${fd}: ${readlinkSync(`/proc/self/fd/${fd}`)}`);
  }
  send({ wrong: [...wrong] });
}
