import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Signal } from '@aviary/proto/process';
import { waitFor } from '@aviary/service-kit/deadline';
import { Code } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cgroupRoot, collect, failure, isAlive, isRoot, shell, TestAgent } from '../test-agent.ts';

let guest: TestAgent;
beforeAll(async () => {
  guest = await TestAgent.start();
});
afterAll(() => guest[Symbol.asyncDispose]());

describe('processes', () => {
  for (const json of [true, false]) {
    it(`returns binary output, both streams and the exit code (${json ? 'JSON' : 'binary'})`, async () => {
      const result = await collect(
        guest.clients({ json }).process.start(shell('printf "\\000\\377\\001"; echo oops >&2; exit 3')),
      );
      expect(result.kinds[0]).toBe('start');
      expect(result.kinds.at(-1)).toBe('end');
      expect([...result.stdout]).toEqual([0, 255, 1]);
      expect(result.stderr.toString()).toBe('oops\n');
      expect(result).toMatchObject({ exitCode: 3, status: 'exit status 3' });
    });
  }

  it('layers the environment: user basics, sandbox, request', async () => {
    const result = await collect(
      guest.clients().process.start({
        process: { cmd: '/bin/sh', args: ['-c', 'echo $HOME $USER $LOGNAME $FROM_SANDBOX $MINE'], envs: { MINE: 'm' } },
      }),
    );
    expect(result.stdout.toString()).toBe('/root root root yes m\n');
  });

  it.skipIf(!isRoot)('runs as the named user with its groups, who may open /dev/stdout', async () => {
    const result = await collect(
      guest
        .clients({ user: 'nobody' })
        .process.start(shell('id -u; id -G; echo open > /dev/stdout; cat /proc/self/oom_score_adj', { cwd: '/' })),
    );
    expect(result.stdout.toString()).toBe('65534\n65534\nopen\n300\n');
    expect(process.geteuid?.()).toBe(0);
  });

  it('refuses what cannot start', async () => {
    const { process: client } = guest.clients();
    const noDirectory = await failure(collect(client.start({ process: { cmd: '/bin/true', cwd: '/no/such/place' } })));
    expect(noDirectory.code).toBe(Code.InvalidArgument);
    expect(noDirectory.message).toContain('/no/such/place');
    expect((await failure(collect(client.start({ process: { cmd: 'no-such-program' } })))).code).toBe(Code.NotFound);
    const stranger = await failure(collect(guest.clients({ user: 'nobody-here' }).process.start(shell('true'))));
    expect(stranger.code).toBe(Code.Unauthenticated);
    expect(stranger.message).toContain('nobody-here');
    expect((await failure(collect(guest.clients({ token: 'wrong' }).process.start(shell('true'))))).code).toBe(
      Code.Unauthenticated,
    );
  });

  it('feeds standard input and closes it', async () => {
    const { process: client } = guest.clients();
    const pid = await guest.startAndLeave('cat');
    const input = Buffer.from([0, 1, 2, 255]);
    await client.sendInput({
      process: { selector: { case: 'pid', value: pid } },
      input: { input: { case: 'stdin', value: input } },
    });
    await client.closeStdin({ process: { selector: { case: 'pid', value: pid } } });
    const result = await collect(client.connect({ process: { selector: { case: 'pid', value: pid } } }));
    expect(result.stdout.equals(input)).toBe(true);
    expect(result.exitCode).toBe(0);
  });

  it('gives end of file at once when stdin is not wanted', async () => {
    expect(
      (await collect(guest.clients().process.start(shell('cat; echo done', { stdin: false })))).stdout.toString(),
    ).toBe('done\n');
  });

  it('replays output to a client that comes after the end, by tag', async () => {
    const { process: client } = guest.clients();
    const pid = await guest.startAndLeave('read go; echo one; echo two >&2; exit 5', { tag: 'job' });
    await client.sendInput({
      process: { selector: { case: 'tag', value: 'job' } },
      input: { input: { case: 'stdin', value: Buffer.from('go\n') } },
    });
    await waitFor(
      { what: 'end of the process', timeoutMs: 5_000 },
      () => guest.agent.registry.find({ by: 'pid', pid }).hasEnded,
    );
    expect((await client.list({})).processes.map(({ tag }) => tag)).toContain('job');
    const result = await collect(client.connect({ process: { selector: { case: 'tag', value: 'job' } } }));
    expect(result).toMatchObject({ pid, exitCode: 5 });
    expect(result.stdout.toString() + result.stderr.toString()).toBe('one\ntwo\n');
  });

  it('kills the tree at the deadline', async () => {
    const mark = `${guest.directory}/tree-pid`;
    const error = await failure(
      collect(guest.clients().process.start(shell(`sleep 77 & echo $! > ${mark}; wait`), { timeoutMs: 500 })),
    );
    expect(error.code).toBe(Code.DeadlineExceeded);
    const child = Number(readFileSync(mark, 'utf8'));
    await waitFor({ what: 'death of the grandchild', timeoutMs: 5_000 }, () => !isAlive(child));
  });

  it('ends although a background program keeps the output open, and tree-kills that program', async () => {
    const result = await collect(guest.clients().process.start(shell('sleep 78 & echo $!')));
    expect(result.exitCode).toBe(0);
    const background = Number(result.stdout.toString());
    expect(isAlive(background)).toBe(true);
    process.kill(background, 'SIGKILL');
  });

  it('signals a process alone, or with its tree', async () => {
    const { process: client } = guest.clients();
    const pid = await guest.startAndLeave('sleep 79 & echo $!; wait');
    const stream = collect(client.connect({ process: { selector: { case: 'pid', value: pid } } }));
    await client.sendSignal({ process: { selector: { case: 'pid', value: pid } }, signal: Signal.SIGTERM, tree: true });
    const result = await stream;
    expect(result).toMatchObject({ exitCode: -1, status: 'signal: terminated' });
    await waitFor({ what: 'death of the child', timeoutMs: 5_000 }, () => !isAlive(Number(result.stdout.toString())));
    const again = await failure(
      client.sendSignal({ process: { selector: { case: 'pid', value: pid } }, signal: Signal.SIGTERM }),
    );
    expect(again.code).toBe(Code.NotFound);
  });

  it('gives a fast reader all of 100 MB while another one stands still', async () => {
    const { process: client } = guest.clients({ json: false });
    const pid = await guest.startAndLeave('read go; head -c 100000000 /dev/zero');
    const selector = { selector: { case: 'pid' as const, value: pid } };
    const stalled = client.connect({ process: selector })[Symbol.asyncIterator]();
    await stalled.next();
    let received = 0;
    let isEnded = false;
    const fast = (async () => {
      for await (const { event } of client.connect({ process: selector })) {
        if (event?.event.case === 'start') {
          await client.sendInput({
            process: selector,
            input: { input: { case: 'stdin', value: Buffer.from('go\n') } },
          });
        }
        if (event?.event.case === 'data') received += event.event.value.output.value?.length ?? 0;
        isEnded ||= event?.event.case === 'end';
      }
    })();
    await fast;
    expect(received).toBe(100_000_000);
    expect(isEnded).toBe(true);
    const lagging = await failure(
      (async () => {
        while (!(await stalled.next()).done);
      })(),
    );
    expect(lagging.code).toBe(Code.ResourceExhausted);
  }, 60_000);

  it('runs a terminal: size, resize, input, bytes', async () => {
    const { process: client } = guest.clients();
    const stream = client
      .start({ process: { cmd: '/bin/sh', args: [] }, pty: { size: { cols: 91, rows: 23 } } })
      [Symbol.asyncIterator]();
    const first = await stream.next();
    const pid = first.value?.event?.event.case === 'start' ? first.value.event.event.value.pid : 0;
    const target = { selector: { case: 'pid' as const, value: pid } };
    const type = (text: string) =>
      client.sendInput({ process: target, input: { input: { case: 'pty', value: Buffer.from(text) } } });
    await type('stty size\n');
    await client.update({ process: target, pty: { size: { cols: 101, rows: 33 } } });
    await type('stty size; printf "\\303\\244\\377"; exit 4\n');
    const rest = await collect({ [Symbol.asyncIterator]: () => stream });
    expect(rest.pty.toString('latin1')).toMatch(/33 101/);
    expect(rest.pty.includes(Buffer.from([0xc3, 0xa4, 0xff]))).toBe(true);
    expect(rest.exitCode).toBe(4);
    expect(guest.agent.registry.list().some((entry) => entry.pid === pid)).toBe(false);
  });

  it('leaks neither descriptors nor processes nor groups over 200 runs', async () => {
    const { process: client } = guest.clients();
    await collect(client.start(shell('true')));
    const before = openDescriptors();
    const listed = guest.agent.registry.list().length;
    for (let run = 0; run < 200; run++) await collect(client.start(shell('echo x')));
    await waitFor({ what: 'release of descriptors', timeoutMs: 10_000 }, () => openDescriptors() <= before + 5);
    await waitFor(
      { what: 'a process list as before', timeoutMs: 5_000 },
      () => guest.agent.registry.list().length <= listed,
    );
    if (cgroupRoot) {
      const groups = readdirSync(join(cgroupRoot, 'user')).filter((name) => /^p\d+$/.test(name));
      expect(groups.length).toBeLessThan(10);
    }
  }, 60_000);
});

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
