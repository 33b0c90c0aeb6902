import { closeSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { access, chmod, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { errorText } from '@aviary/core';
import { runProgram, waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseLibraries } from '../qemu/program-files.ts';
import { Starter, type StartRequest } from './starter.ts';

const shell = '/bin/sh';
const uid = 23_471;
let directory: string;
let starter: Starter;

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'starter-'));
  await chmod(directory, 0o711);
  for (const name of ['work', 'own']) await mkdir(path.join(directory, name), { mode: 0o755 });
  await writeFile(path.join(directory, 'read'), 'of others\n', { mode: 0o644 });
  await writeFile(path.join(directory, 'hidden'), 'of others\n', { mode: 0o666 });
  const libraries = parseLibraries((await runProgram('ldd', [shell])).stdout);
  const workDirectory = path.join(directory, 'work');
  starter = new Starter({ programFiles: [shell, ...libraries], devices: ['/dev/null'], workDirectory });
});
afterAll(async () => {
  await starter?.[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** Runs a script of the shell's own commands and gives what it said, and how it ended. */
async function run(script: string, overrides: Partial<StartRequest> = {}) {
  const logPath = path.join(directory, 'log');
  const started = await start(script, overrides, logPath);
  const end = await started.ended;
  started.finishStart();
  return { pid: started.pid, end, text: await readFile(logPath, 'utf8') };
}

async function start(script: string, overrides: Partial<StartRequest> = {}, logPath = path.join(directory, 'log')) {
  await using log = await open(logPath, 'w');
  return await starter.start({
    ...{ file: shell, args: ['-c', script], logFd: log.fd, readOnlyOpens: [], place: async () => undefined },
    visible: [
      { path: path.join(directory, 'read'), isWritable: false },
      { path: path.join(directory, 'own'), isWritable: true },
    ],
    credentials: { uid, gid: uid, groups: [] },
    ...overrides,
  });
}

function linkOf(file: string): string | undefined {
  try {
    return readlinkSync(file);
  } catch {
    return undefined; // it was that of the listing
  }
}

it('shows a program nothing of the host but what it was given, and leaves it no privilege', async () => {
  const own = path.join(directory, 'own');
  await runProgram('chown', [String(uid), own]);
  const { text } = await run(`
    cd ${directory}; echo /* ./* "$$"; read line < read; echo "$line"
    for file in read hidden /made /tmp/made own/made; do (echo x > $file) 2>/dev/null && echo "wrote $file"; done; :`);
  const [names = '', line, ...wrote] = text.trim().split('\n');
  const top = names.split(' ').filter((name) => /^\/[^/]+$/.test(name));
  for (const name of top) expect(['/bin', '/dev', '/lib', '/lib64', '/usr', '/tmp']).toContain(name);
  // Its own names of what lies beside; not that of the hidden file. It is the first process that it knows of.
  expect(names.split(' ').filter((name) => name.startsWith('./'))).toEqual(['./own', './read']);
  expect(names.split(' ').at(-1)).toBe('1');
  expect(line).toBe('of others');
  expect(wrote).toEqual(['wrote own/made']);
  await rm(path.join(own, 'made'));
});

it('runs a program only when it is placed', async () => {
  const mark = path.join(directory, 'own/ran');
  let placed = 0;
  const isThere = () =>
    access(mark).then(
      () => true,
      () => false,
    );
  const { pid } = await run(`: > ${mark}`, {
    async place(toPlace) {
      placed = toPlace;
      expect(await isThere()).toBe(false);
    },
  });
  expect(placed).toBe(pid);
  expect(await isThere()).toBe(true);
  await rm(mark);
  const failure = new Error('no place for it');
  await expect(run(`: > ${mark}`, { place: () => Promise.reject(failure) })).rejects.toBe(failure);
  expect(await isThere()).toBe(false);
  // The next one starts as if nothing had been.
  expect((await run('exit 3')).end).toEqual({ code: 3, signal: null });
});

it('starts what it was asked to, whatever a program of an earlier start calls meanwhile', async () => {
  const own = path.join(directory, 'own');
  const script = `while :; do (exec ${shell} -c ': > ${own}/taken') 2>/dev/null; echo >> ${own}/tries; done`;
  const earlier = await start(script, {}, path.join(directory, 'earlier'));
  earlier.finishStart();
  // Refused as long as the starter looks for calls of the first start; after that, one waits for its answer.
  let tries: string | undefined;
  const looks = { what: 'a call that waits for its answer', timeoutMs: 10_000, intervalMs: 300 };
  await waitFor(looks, async () => {
    const before = tries;
    tries = await readFile(path.join(own, 'tries'), 'utf8').catch(() => '');
    return tries === before;
  });
  const placed: number[] = [];
  const { pid, end } = await run('exit 6', { place: async (toPlace) => void placed.push(toPlace) });
  expect(placed).toEqual([pid]);
  expect(end.code).toBe(6);
  process.kill(earlier.pid, 'SIGKILL');
  expect((await earlier.ended).signal).toBe('SIGKILL');
  expect(await readdir(own)).toEqual(['tries']);
  await rm(path.join(own, 'tries'));
});

it('gives a program that asks to write a descriptor for reading, and never one that has become another file', async () => {
  // It opens for reading and writing with no other flag, as QEMU does.
  const program = '/sbin/debugfs';
  const image = path.join(directory, 'image');
  await writeFile(image, Buffer.alloc(4_096), { mode: 0o440 });
  const libraries = parseLibraries((await runProgram('ldd', [program])).stdout);
  const work = path.join(directory, 'work-of-other');
  await mkdir(work);
  await using other = new Starter({ programFiles: [program, ...libraries], devices: [], workDirectory: work });
  const logPath = path.join(directory, 'other-log');
  const openImage = async (place: () => Promise<void>) => {
    await using log = await open(logPath, 'w');
    const request = {
      file: program,
      args: ['-w', image, '-R', 'quit'],
      logFd: log.fd,
      readOnlyOpens: [image],
      visible: [],
      place,
    };
    const started = await other.start({ ...request, credentials: { uid, gid: uid, groups: [] } });
    await started.ended;
    started.finishStart();
    return { failure: started.failure(), text: await readFile(logPath, 'utf8') };
  };
  // It reads what is no file system.
  expect(await openImage(async () => undefined)).toMatchObject({
    failure: undefined,
    text: expect.stringContaining('Bad magic number'),
  });
  const stranger = path.join(directory, 'hidden');
  let reused: number | undefined;
  const { failure, text } = await openImage(async () => {
    const names = readdirSync('/proc/self/fd');
    const [own] = names.filter((name) => linkOf(`/proc/self/fd/${name}`) === image);
    // As by somebody who closes a number twice.
    closeSync(Number(own));
    reused = openSync(stranger, 'r+');
    expect(reused).toBe(Number(own));
  });
  expect(errorText(failure)).toBe(`descriptor ${reused}, opened for ${image}, is that of ${stranger}`);
  expect(text).toContain('Permission denied');
});

it('keeps nobody waiting who starts programs meanwhile', async () => {
  let isEnough = false;
  const others = (async () => {
    let count = 0;
    for (; !isEnough; count++) await runProgram('true', []);
    return count;
  })();
  for (let round = 0; round < 30; round++) {
    expect((await run('exit 5', { place: async () => void (await runProgram('true', [])) })).end.code).toBe(5);
  }
  isEnough = true;
  expect(await others).toBeGreaterThan(0);
});

it('says why a program cannot be started, and starts the next', async () => {
  await expect(run(':', { file: '/bin/none' })).rejects.toMatchObject({ name: 'AppError' });
  await expect(run(':', { visible: [{ path: `${directory}/none`, isWritable: false }] })).rejects.toThrow(/none/);
  expect((await run('exit 4')).end.code).toBe(4);
});
