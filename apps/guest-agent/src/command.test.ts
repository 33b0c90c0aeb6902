import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Commands, type RunRequestSchema } from '@aviary/proto/guestagent';
import { Process } from '@aviary/proto/process';
import { waitFor } from '@aviary/service-kit/deadline';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GuestMachine } from './lifecycle/guest-machine.ts';
import { type GuestAgent, startGuestAgent } from './start.ts';

const isRoot = process.getuid?.() === 0;
const cgroupMount = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find(
  (path) => isRoot && existsSync(join(path, 'cgroup.procs')),
);
const cgroupRoot = cgroupMount && join(cgroupMount, `aviary-command-test-${process.pid}`);
const machine: GuestMachine = {
  setClock: () => undefined,
  addEntropy: () => undefined,
  setIdentity: () => undefined,
  dropStaleConnections: () => true,
  flushNeighbours: () => undefined,
  syncDisks: async () => undefined,
  dirtyBytes: () => 0,
};

let agent: GuestAgent;
let directory: string;
let commands: Client<typeof Commands>;
let processes: Client<typeof Process>;

beforeAll(async () => {
  if (cgroupRoot) mkdirSync(cgroupRoot);
  directory = mkdtempSync(join(tmpdir(), 'aviary-command-'));
  chmodSync(directory, 0o755);
  agent = await startGuestAgent(
    {
      host: '127.0.0.1',
      port: 0,
      hostTokenSha256: createHash('sha256').update('host').digest('hex'),
      cgroupRoot,
      launcher: { shell: ['/bin/sh'], env: ['/usr/bin/env'] },
    },
    { machine },
  );
  const transport = createConnectTransport({
    baseUrl: `http://127.0.0.1:${agent.port}`,
    httpVersion: '1.1',
    interceptors: [
      (next) => (request) => {
        request.header.set('x-aviary-host-token', 'host');
        return next(request);
      },
    ],
  });
  commands = createClient(Commands, transport);
  processes = createClient(Process, transport);
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
  if (!cgroupRoot) return;
  const user = join(cgroupRoot, 'user');
  await waitFor({ what: 'removal of the test cgroup', timeoutMs: 5_000 }, () => {
    try {
      for (const name of readdirSync(user)) if (/^p\d+$/.test(name)) rmdirSync(join(user, name));
      rmdirSync(user);
      rmdirSync(cgroupRoot);
      return true;
    } catch {
      return false;
    }
  });
});

type RunInit = MessageInitShape<typeof RunRequestSchema>;

const shell = (line: string, more: RunInit = {}): RunInit => ({ cmd: '/bin/sh', args: ['-c', line], ...more });

async function run(request: RunInit) {
  const text = { stdout: '', stderr: '' };
  const kinds: string[] = [];
  for await (const { event } of commands.run(request)) {
    kinds.push(String(event.case));
    if (event.case === 'stdout' || event.case === 'stderr') text[event.case] += Buffer.from(event.value).toString();
    if (event.case === 'end') return { ...text, kinds, end: event.value };
  }
  return expect.fail('no end');
}

/** Starts a command and leaves it as soon as `mark` exists, which the command makes when all of its tree is there. */
async function runAndLeave(line: string, { mark, ...more }: RunInit & { mark: string }): Promise<void> {
  const connection = new AbortController();
  const events = commands.run(shell(line, more), { signal: connection.signal })[Symbol.asyncIterator]();
  await events.next();
  await waitFor({ what: 'the whole tree', timeoutMs: 5_000 }, () => existsSync(mark));
  connection.abort();
  await events.next().catch(() => undefined);
}

const pidsIn = (path: string) => readFileSync(path, 'utf8').trim().split(/\s+/).map(Number);

/** A command, a child of it, and one that left its session and was adopted: the pids of all three in `mark`. */
const familyOf = (mark: string) =>
  `sleep 871 & child=$!; (setsid sh -c 'echo $$ > ${mark}.far; exec sleep 872' &); ` +
  `until [ -s ${mark}.far ]; do sleep 0.01; done; echo $$ $child $(cat ${mark}.far) > ${mark}.new; mv ${mark}.new ${mark}; wait`;

describe('a command whose client leaves', () => {
  it.skipIf(!cgroupRoot)('is stopped with all it started, those in sessions of their own included', async () => {
    const mark = join(directory, 'family');
    await runAndLeave(familyOf(mark), { mark });
    const pids = pidsIn(mark);
    expect(pids).toHaveLength(3);
    await waitFor({ what: `the end of ${pids}`, timeoutMs: 5_000 }, () => !pids.some(isAlive));
  });

  it('goes on when it was detached', async () => {
    const mark = join(directory, 'detached');
    const go = join(directory, 'go');
    const line = `echo $$ > ${mark}; until [ -e ${go} ]; do sleep 0.01; done; echo done > ${mark}.end`;
    await runAndLeave(line, { mark, detach: true });
    writeFileSync(go, '');
    await waitFor({ what: 'its own end', timeoutMs: 5_000 }, () => existsSync(`${mark}.end`));
  });

  it('is stopped while nobody takes its output', async () => {
    const mark = join(directory, 'flood');
    await runAndLeave(`echo $$ > ${mark}; exec cat /dev/zero`, { mark });
    await waitFor({ what: 'its end', timeoutMs: 5_000 }, () => !pidsIn(mark).some(isAlive));
  });
});

describe('a command at its limit', () => {
  it('is killed with all it started, and what it wrote is told', async () => {
    const mark = join(directory, 'late');
    const { stdout, end } = await run(shell(`echo so far; ${familyOf(mark)}`, { timeoutMs: 700 }));
    expect(stdout).toBe('so far\n');
    expect(end).toMatchObject({ timedOut: true, exitCode: 137, signal: 'SIGKILL' });
    const pids = pidsIn(mark).slice(0, cgroupRoot ? 3 : 2);
    await waitFor({ what: `the end of ${pids}`, timeoutMs: 5_000 }, () => !pids.some(isAlive));
  });

  it('sends no output past its cap, and counts it', async () => {
    const line = 'head -c 3000000 /dev/zero; head -c 100 /dev/zero >&2; exit 3';
    const { stdout, stderr, end } = await run(shell(line, { maxOutputBytes: 100_000n }));
    expect([stdout.length, stderr.length]).toEqual([100_000, 100]);
    expect(end).toMatchObject({ exitCode: 3, droppedStdoutBytes: 2_900_000n, droppedStderrBytes: 0n });
  });
});

describe('the end of a command', () => {
  it('names the signal, with the exit code of a shell', async () => {
    expect((await run(shell('kill -9 $$'))).end).toMatchObject({ exitCode: 137, signal: 'SIGKILL', timedOut: false });
    expect((await run(shell('kill -TERM $$'))).end).toMatchObject({ exitCode: 143, signal: 'SIGTERM' });
    expect((await run(shell('exit 9'))).end).toMatchObject({ exitCode: 9, signal: '' });
  });

  it('is 127 without such a program, 126 without the right to execute it, in words', async () => {
    const none = await run({ cmd: 'no-such-program', args: ['now'] });
    expect([none.end.exitCode, none.kinds]).toEqual([127, ['stderr', 'end']]);
    expect(none.stderr).toContain('"no-such-program": no such program');
    const script = join(directory, 'script.sh');
    writeFileSync(script, '#!/bin/sh\n', { mode: 0o644 });
    const refused = await run({ cmd: './script.sh', args: ['now'], cwd: directory });
    expect([refused.end.exitCode, refused.stderr]).toEqual([
      126,
      'cannot start "./script.sh": permission denied: not executable\n',
    ]);
  });

  it('is no end but an error when the request is wrong', async () => {
    const failure = (request: RunInit) =>
      run(request).then(
        () => expect.fail('it ran'),
        (error: unknown) => ConnectError.from(error),
      );
    const noDirectory = await failure({ cmd: '/bin/true', cwd: '/no/such/place' });
    expect([noDirectory.code, noDirectory.rawMessage]).toEqual([
      Code.InvalidArgument,
      expect.stringContaining('/no/such/place'),
    ]);
    const badName = await failure({ cmd: '/bin/true', envs: { 'a=b': '1' } });
    expect([badName.code, badName.rawMessage]).toEqual([Code.InvalidArgument, expect.stringContaining('"a=b"')]);
    expect((await failure({ cmd: '/bin/true', user: 'nobody-here' })).code).toBe(Code.Unauthenticated);
  });
});

describe('what a command starts with', () => {
  it('is every variable, whatever its name', async () => {
    const { stdout } = await run({ cmd: 'env', envs: { 'a.b': '1', 'c-d': 'two words', OK: '2' } });
    expect(stdout.split('\n')).toEqual(expect.arrayContaining(['a.b=1', 'c-d=two words', 'OK=2', 'LANG=C.UTF-8']));
    expect(stdout).toMatch(/^SHELL=\/.+$/m);
  });

  it.skipIf(!isRoot)('is any user, by number too, and / where there is no home', async () => {
    const line = 'id -u; id -g; id -G; pwd';
    expect((await run(shell(line, { user: '4242' }))).stdout).toBe('4242\n4242\n4242\n/\n');
    expect((await run(shell(line, { user: '4242:7' }))).stdout).toBe('4242\n7\n7\n/\n');
    expect((await run(shell('id -un; echo $USER', { user: '65534' }))).stdout).toBe('nobody\nnobody\n');
  });

  it('is standard input for as long as the caller sends', async () => {
    let stdout = '';
    for await (const { event } of commands.run(shell('cat', { stdin: true }))) {
      if (event.case === 'stdout') stdout += Buffer.from(event.value).toString();
      if (event.case !== 'start') continue;
      const target = { selector: { case: 'pid' as const, value: event.value.pid } };
      for (const text of ['one ', 'two']) {
        await processes.sendInput({
          process: target,
          input: { input: { case: 'stdin', value: Buffer.from(text) } },
        });
      }
      await processes.closeStdin({ process: target });
    }
    expect(stdout).toBe('one two');
    expect((await run(shell('cat; echo closed'))).stdout).toBe('closed\n');
  });
});

function isAlive(pid: number): boolean {
  try {
    // A zombie that its parent has not collected is dead all the same.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
