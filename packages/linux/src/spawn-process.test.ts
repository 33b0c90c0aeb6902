import { closeSync, readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createPipe } from './pipe.ts';
import { type ChildEnd, type SpawnRequest, spawnProcess } from './spawn-process.ts';

const shell = (script: string, change: Partial<SpawnRequest> = {}): SpawnRequest => ({
  file: '/bin/sh',
  args: ['-c', script],
  env: { PATH: '/usr/bin:/bin' },
  cwd: '/',
  descriptors: [null, null, null],
  ...change,
});

/** Ended ones that nobody has reaped are among them. See proc_pid_task_children(5). */
function childrenOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' '),
  );
}

/** Runs a program to its end. */
function run(request: SpawnRequest): Promise<ChildEnd & { pid: number }> {
  return new Promise((resolve) => {
    const pid = spawnProcess(request, (end) => resolve({ ...end, pid }));
  });
}

/** What a script prints. */
async function output(script: string, change: Partial<SpawnRequest> = {}): Promise<string> {
  const { readFd, writeFd } = createPipe();
  try {
    const ended = run(shell(script, { descriptors: [null, writeFd, null], ...change }));
    closeSync(writeFd);
    await ended;
    return readFileSync(readFd, 'utf8').trim();
  } finally {
    closeSync(readFd);
  }
}

test('a child ends with its code or its signal', async () => {
  expect(await run(shell('exit 7'))).toMatchObject({ code: 7, signal: null });
  expect(await run(shell('kill -9 $$'))).toMatchObject({ code: null, signal: 'SIGKILL' });
});

test('a child has its arguments, environment, directory and session, and none of the descriptors of its parent', async () => {
  const { readFd, writeFd } = createPipe();
  try {
    const script = 'echo "$A|$1|$(pwd)|$(cut -d" " -f1,6 /proc/$$/stat)"; ls /proc/$$/fd | tr "\\n" " "';
    const change = { args: ['-c', script, 'sh', 'ü '], env: { PATH: '/usr/bin:/bin', A: 'b c' }, cwd: '/usr' };
    const [facts, descriptors = ''] = (await output('', change)).split('\n');
    expect(facts).toMatch(/^b c\|ü \|\/usr\|(\d+) \1$/);
    const open = descriptors.split(' ').map(Number);
    expect(open).toEqual(expect.arrayContaining([0, 1, 2]));
    expect(open).not.toContain(readFd);
    expect(open).not.toContain(writeFd);
  } finally {
    closeSync(readFd);
    closeSync(writeFd);
  }
});

test('a child takes every signal, whatever its parent ignores', async () => {
  const ignored = await output('grep -E "^Sig(Ign|Blk)" /proc/self/status | tr -d "\\n"');
  expect(ignored).toMatch(/^SigBlk:\s*0+SigIgn:\s*0+$/);
});

test('what cannot be started is an error, and leaves no descriptor and no process', async () => {
  const held = () => [readdirSync('/proc/self/fd').length, childrenOf(process.pid)];
  const before = held();
  expect(() => spawnProcess(shell('', { file: '/nowhere' }), () => undefined)).toThrow(/posix_spawn.*ENOENT/);
  expect(() => spawnProcess(shell('', { cwd: '/nowhere' }), () => undefined)).toThrow(/ENOENT/);
  expect(() => spawnProcess(shell('', { file: '/etc/passwd' }), () => undefined)).toThrow(/EACCES/);
  const huge = { A: 'x'.repeat(4_000_000) };
  expect(() => spawnProcess(shell('', { env: huge }), () => undefined)).toThrow(/E2BIG/);
  expect(held()).toEqual(before);
});

test('many that end at once are all told of, each once', async () => {
  const before = childrenOf(process.pid);
  const codes: (number | null)[] = [];
  for (let n = 0; n < 40; n++) spawnProcess(shell(`exit ${n}`), ({ code }) => codes.push(code));
  await expect.poll(() => childrenOf(process.pid)).toEqual(before);
  expect(codes.toSorted((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: 40 }, (_, n) => n));
});
