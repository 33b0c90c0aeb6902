import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { waitFor } from '@aviary/service-kit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { answersHttp } from './liveness.ts';
import { readStartTicks } from './platform-lock.ts';
import { type Service, Supervisor, type SupervisorOptions } from './supervisor.ts';

let directory: string;
let journal: string;
let lines: string[];
let supervisors: Supervisor[];
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const never = new AbortController().signal;
const wait = (what: string) => ({ what, timeoutMs: 10_000 });

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-up-'));
  journal = path.join(directory, 'journal');
  await writeFile(journal, '');
  lines = [];
  supervisors = [];
});

afterEach(async () => {
  for (const supervisor of supervisors) await supervisor.stop();
  await rm(directory, { recursive: true });
});

function supervise(options: Partial<SupervisorOptions> = {}): Supervisor {
  const onLine = (service: string, line: string) => lines.push(`${service}: ${line}`);
  const supervisor = new Supervisor({ onLine, restartDelayMs: 1, ...options });
  supervisors.push(supervisor);
  return supervisor;
}

const entries = async () => (await readFile(journal, 'utf8')).split('\n').filter(Boolean);
const count = async (entry: string) => (await entries()).filter((one) => one === entry).length;

/** A program that notes what happens to it; `body` runs after it noted its start. */
function service(name: string, body: string, options: Partial<Service> = {}): Service {
  const note = `const note = (what) => require('node:fs').appendFileSync(${JSON.stringify(journal)}, '${name} ' + what + '\\n');`;
  return {
    name,
    file: process.execPath,
    args: ['-e', `${note} note('started'); ${body}`],
    env: {},
    isReady: async () => (await count(`${name} started`)) > 0,
    readyTimeoutMs: 10_000,
    isAlive: async () => true,
    stopTimeoutMs: 5_000,
    ...options,
  };
}

const untilTerm = "setInterval(() => {}, 1000); process.on('SIGTERM', () => { note('stopped'); process.exit(0); });";

describe('supervisor', () => {
  it('starts in order and stops in reverse order', async () => {
    const supervisor = supervise();
    await supervisor.start(service('first', untilTerm), never);
    await supervisor.start(service('second', untilTerm), never);
    await supervisor.stop();
    expect(await entries()).toEqual(['first started', 'second started', 'second stopped', 'first stopped']);
  });

  it('passes on each line of either output', async () => {
    const body =
      "console.log('to out'); console.error('to err'); process.stdout.write('no newline'); note('said'); setInterval(() => {}, 1000)";
    const supervisor = supervise();
    await supervisor.start(service('talker', body, { isReady: async () => (await count('talker said')) > 0 }), never);
    await supervisor.stop();
    expect(lines.toSorted()).toEqual(['talker: no newline', 'talker: to err', 'talker: to out']);
  });

  it('restarts what dies, and lets it be when stopping', async () => {
    const supervisor = supervise();
    await supervisor.start(service('phoenix', untilTerm), never);
    const first = supervisor.pids()['phoenix'];
    process.kill(first ?? 0, 'SIGKILL');
    await waitFor(wait('a second start'), async () => (await count('phoenix started')) === 2);
    expect(supervisor.pids()['phoenix']).not.toBe(first);
    expect(lines.join('\n')).toContain('phoenix: was killed by SIGKILL; starting it again');
    await supervisor.stop();
    expect(await count('phoenix started')).toBe(2);
  });

  it('starts what keeps dying again and again, and leaves the others alone', async () => {
    const supervisor = supervise();
    // The first one lives until it is told to die, the next eight die at once.
    const body = `process.on('SIGTERM', () => process.exit(3));
      const starts = require('node:fs').readFileSync(${JSON.stringify(journal)}, 'utf8').split('mayfly started').length - 1;
      if (starts > 1 && starts < 10) process.exit(3);
      note('armed'); setInterval(() => {}, 1000);`;
    await supervisor.start(service('steady', untilTerm), never);
    await supervisor.start(service('mayfly', body, { isReady: async () => (await count('mayfly armed')) > 0 }), never);
    const steady = supervisor.pids()['steady'];
    process.kill(supervisor.pids()['mayfly'] ?? 0, 'SIGTERM');
    await waitFor(wait('a mayfly that lives'), async () => (await count('mayfly armed')) === 2);
    expect(await count('mayfly started')).toBe(10);
    expect(supervisor.pids()['steady']).toBe(steady);
    expect(lines.join('\n')).toContain('mayfly: ended with exit code 3; starting it again in');
  });

  it('kills and restarts what hangs, but not what answers with an error', async () => {
    const supervisor = supervise({ aliveIntervalMs: 10, answerTimeoutMs: 200, maxMissedAnswers: 2 });
    const port = await freePort();
    // Stands for a loop that never yields: the process lives, its socket accepts, and nothing answers.
    const body = `require('node:http').createServer((request, response) => {
        if (request.url === '/hang') for (;;);
        response.statusCode = 503;
        response.end();
      }).listen(${port}, () => note('armed'));`;
    let asked = 0;
    const spinner = service('spinner', body, {
      isReady: async () => (await count('spinner armed')) > 0,
      isAlive: (signal) => {
        asked++;
        return answersHttp(`http://127.0.0.1:${port}/`, signal);
      },
    });
    await supervisor.start(spinner, never);
    await waitFor(wait('ten answers'), async () => asked > 10);
    expect(await count('spinner started')).toBe(1);
    await fetch(`http://127.0.0.1:${port}/hang`, { signal: AbortSignal.timeout(100) }).catch(() => undefined);
    await waitFor(wait('a second start'), async () => (await count('spinner armed')) === 2);
    expect(lines.join('\n')).toMatch(
      /spinner: does not answer \(asked \d+ times\): killing it\nspinner: was killed by SIGKILL/,
    );
  });

  it('tells why a service did not start', async () => {
    const broken = service('broken', "console.error('no such setting'); process.exit(1)", {
      isReady: async () => false,
    });
    await expect(supervise().start(broken, never)).rejects.toThrow(
      /cannot start broken: it ended with exit code 1 before it was ready[\s\S]*no such setting/,
    );
    const absent = service('absent', '', { file: '/nowhere/program', isReady: async () => false });
    await expect(supervise().start(absent, never)).rejects.toThrow(/cannot be run .*ENOENT/);
    const slow = service('slow', untilTerm, { isReady: async () => false, readyTimeoutMs: 100 });
    await expect(supervise().start(slow, never)).rejects.toThrow(/readiness of slow did not happen within 100 ms/);
  });

  it('kills a service that does not stop', async () => {
    const supervisor = supervise();
    const body = "process.on('SIGTERM', () => note('deaf')); setInterval(() => {}, 1000); note('armed')";
    const stubborn = service('stubborn', body, {
      stopTimeoutMs: 100,
      isReady: async () => (await count('stubborn armed')) > 0,
    });
    await supervisor.start(stubborn, never);
    const pid = supervisor.pids()['stubborn'] ?? 0;
    await supervisor.stop();
    expect(await readStartTicks(pid)).toBeUndefined();
    expect(await count('stubborn deaf')).toBe(1);
  });

  it('leaves no service behind when it is itself killed', async () => {
    const kit = path.join(import.meta.dirname, '../../../../packages/service-kit/src/parent-watch.ts');
    const watch = `import(${JSON.stringify(kit)}).then(({ watchParent }) => {
      const isEnabled = process.env.AVIARY_EXIT_WITH_PARENT === '1';
      watchParent({ isEnabled }).addEventListener('abort', () => { note('orphaned'); process.exit(0); });
      note('ready');
    }); setInterval(() => {}, 1000);`;
    const child = service('child', watch);
    const script = `
      const { Supervisor } = await import(${JSON.stringify(path.join(import.meta.dirname, 'supervisor.ts'))});
      const { existsSync, readFileSync } = await import('node:fs');
      const supervisor = new Supervisor({ onLine: () => undefined });
      const isReady = async () => readFileSync(${JSON.stringify(journal)}, 'utf8').includes('child ready');
      await supervisor.start({ ...${JSON.stringify(child)}, isReady }, new AbortController().signal);
      process.kill(process.pid, 'SIGKILL');`;
    const outer = service('outer', '', { args: ['--input-type=module', '-e', script], isReady: async () => false });
    await expect(supervise().start(outer, never)).rejects.toThrow('was killed by SIGKILL');
    await waitFor(wait('the orphan noticing'), async () => (await count('child orphaned')) === 1);
  });
});
