import net from 'node:net';
import { must, newId, type SandboxId } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentHarness, startAgentHarness } from '../testing/agent-harness.ts';
import { SandboxDriver } from '../testing/sandbox-driver.ts';
import { testImages } from '../testing/test-images.ts';

const cycles = 20;
const settings: Record<string, string> = {};
let agent: AgentHarness;
let drive: SandboxDriver;
let sandboxId: SandboxId;

beforeAll(async () => {
  agent = await startAgentHarness({ imagesFrom: await testImages(), settings });
  drive = new SandboxDriver(agent);
  sandboxId = await drive.create({ timeoutSec: 3_600 });
  await drive.sh(sandboxId, `cat > /root/worker.py <<'PY'\n${worker}\nPY\nmkdir -p /dev/shm/m /root/d`);
  await drive.sh(sandboxId, 'nohup python3 /root/worker.py >/root/worker.log 2>&1 & echo $! > /root/worker.pid');
  await waitForGuest('test -e /dev/shm/counter');
}, 300_000);
afterAll(() => agent?.[Symbol.asyncDispose]());

/**
 * Counts in a file; holds a memory area that is full of 0xAA, is zeroed on SIGUSR1, and whose bytes that are not zero are counted into
 * a file on SIGUSR2.
 */
const worker = `
import mmap, os, signal, time
size = 2 * 1024 * 1024
area = mmap.mmap(-1, size)
area.write(b"\\xaa" * size)
def put(name, value):
    with open(name + ".new", "w") as f: f.write(str(value))
    os.rename(name + ".new", name)
def zero(*_):
    area.seek(0)
    area.write(bytes(size))
    put("/dev/shm/zeroed", 1)
signal.signal(signal.SIGUSR1, zero)
signal.signal(signal.SIGUSR2, lambda *_: put("/dev/shm/nonzero", size - area[:].count(0)))
n = 0
while True:
    n += 1
    put("/dev/shm/counter", n)
    time.sleep(0.2)
`;

/** Accepts one connection, waits for what never comes, and says how that ended. */
const listener = `
import socket
server = socket.create_server(("", 9000))
open("/dev/shm/listening", "w")
peer, _ = server.accept()
open("/dev/shm/accepted", "w")
try: end = peer.recv(1)
except OSError as error: end = error
with open("/dev/shm/ended.new", "w") as f: f.write(str(end))
import os; os.rename("/dev/shm/ended.new", "/dev/shm/ended")
`;

/** Names and contents. */
const hashes = 'sha256sum /dev/shm/m/* /root/d/*';

/** Waits in the guest, where asking from outside again and again would take its one CPU from what is waited for. */
async function waitForGuest(test: string): Promise<void> {
  await drive.sh(sandboxId, `timeout 20 sh -c 'until ${test}; do sleep 0.1; done'`);
}

/** Changes memory and disk: new content, zeroes over old content, deleted and new empty files; some of it not yet on the disk. */
function mutation(cycle: number): string {
  const [renewed, zeroed, deleted] = [cycle % 3, (cycle + 1) % 3, (cycle + 2) % 3];
  return ['/dev/shm/m', '/root/d']
    .flatMap((directory) => [
      `head -c 200000 /dev/urandom > ${directory}/f${renewed}`,
      `dd if=/dev/zero of=${directory}/f${zeroed} bs=4096 seek=${cycle} count=20 conv=notrunc status=none`,
      `rm -f ${directory}/f${deleted}`,
      `: > ${directory}/empty${cycle}`,
    ])
    .join('\n');
}

describe('pause and resume', () => {
  it(`keeps files, memory and processes over ${cycles} cycles`, async () => {
    let before = '';
    let counter = 0;
    for (let cycle = 0; cycle < cycles; cycle++) {
      const script = `${cycle > 0 ? hashes : ''}\necho ---; cat /dev/shm/counter; echo; echo ---\n${mutation(cycle)}\n${hashes}`;
      const [found = '', count = '', changed = ''] = (await drive.sh(sandboxId, script)).split('---');
      if (cycle > 0) expect(found.trim(), `after cycle ${cycle}`).toBe(before);
      expect(Number(count), 'the counter goes on').toBeGreaterThan(counter);
      counter = Number(count);
      before = changed.trim();
      await drive.pause(sandboxId);
      await drive.resume(sandboxId, { timeoutSec: 3_600 });
    }
    expect(await drive.sh(sandboxId, hashes)).toBe(before);
    expect(await drive.sh(sandboxId, 'kill -0 $(cat /root/worker.pid) && echo alive')).toBe('alive');
    await drive.expectOnly(1, 1);
  }, 300_000);

  it('keeps memory zero that was zeroed after a resume', async () => {
    const nonZero = async () => {
      await drive.sh(sandboxId, 'rm -f /dev/shm/nonzero; kill -USR2 $(cat /root/worker.pid)');
      await waitForGuest('test -e /dev/shm/nonzero');
      return Number(await drive.sh(sandboxId, 'cat /dev/shm/nonzero'));
    };
    expect(await nonZero()).toBe(2 * 1024 * 1024);
    await drive.sh(sandboxId, 'kill -USR1 $(cat /root/worker.pid)');
    await waitForGuest('test -e /dev/shm/zeroed');
    for (let cycle = 0; cycle < 2; cycle++) {
      await drive.pause(sandboxId);
      await drive.resume(sandboxId, { timeoutSec: 3_600 });
      expect(await nonZero()).toBe(0);
    }
  });

  it('tells programs at once that a peer of before the pause is gone', async () => {
    await drive.sh(sandboxId, `nohup python3 -c '${listener}' >/dev/null 2>&1 & sleep 0.1`);
    await waitForGuest('test -e /dev/shm/listening');
    const { sandboxes } = await agent.client.listSandboxes({});
    const host = must(
      sandboxes.find((one) => one.sandboxId === sandboxId),
      'it runs',
    ).hostAddress;
    const peer = net.connect(9_000, host).on('error', () => undefined);
    await waitForGuest('test -e /dev/shm/accepted');
    await drive.pause(sandboxId);
    await drive.resume(sandboxId, { timeoutSec: 3_600 });
    await waitForGuest('test -e /dev/shm/ended');
    expect(await drive.sh(sandboxId, 'cat /dev/shm/ended')).toContain('Software caused connection abort');
    peer.destroy();
  });

  it('keeps who the sandbox is, its time limit across agents, and gives it new secrets', async () => {
    const identity = 'hostname; cat /etc/machine-id; id -un';
    const before = await drive.sh(sandboxId, identity);
    const { accessToken } = await drive.record(sandboxId);
    await agent.client.setTimeout({ sandboxId, timeoutSec: 1_234 });
    await drive.pause(sandboxId);
    expect((await drive.info(sandboxId)).timeoutSec).toBe(1_234);
    await agent.stop('SIGKILL');
    await agent.start();
    const paused = await drive.info(sandboxId);
    expect({ state: await drive.state(sandboxId), timeoutSec: paused.timeoutSec }).toEqual({
      state: 'PAUSED',
      timeoutSec: 1_234,
    });
    const resumed = await drive.resume(sandboxId, { timeoutSec: 1_234 });
    expect(resumed?.startPath).toBe('resume');
    expect(await drive.sh(sandboxId, identity)).toBe(before);
    const { accessToken: rotated } = await drive.record(sandboxId);
    const statusWith = async (token: string) =>
      (
        await fetch(`http://${resumed?.hostAddress}:49983/metrics`, {
          headers: { 'X-Access-Token': token },
          signal: AbortSignal.timeout(10_000),
        })
      ).status;
    expect(await statusWith(accessToken)).toBe(401);
    expect(await statusWith(rotated)).toBe(200);
  });

  it('does each command once, and refuses what does not fit the state', async () => {
    const operationId = newId('operation');
    const [first, again] = await Promise.all([
      drive.pause(sandboxId, operationId),
      drive.pause(sandboxId, operationId),
    ]);
    expect(again?.generationId).toBe(first?.generationId);
    expect((await drive.refusal(drive.pause(sandboxId))).code).toBe('invalid_state');
    expect((await drive.refusal(drive.sh(sandboxId, 'true'))).code).toBe('invalid_state');
    const resumeId = newId('operation');
    await Promise.all([
      drive.resume(sandboxId, { operationId: resumeId }),
      drive.resume(sandboxId, { operationId: resumeId }),
    ]);
    expect((await drive.refusal(drive.resume(sandboxId))).code).toBe('invalid_state');
    await drive.expectOnly(1, 1);
  });

  it.each([
    ['pauseSandbox', 'PAUSING', 'PAUSED'],
    ['resumeSandbox', 'RESUMING', 'RUNNING'],
  ] as const)('finishes a %s whose caller is cut off in the middle of it', async (method, during, after) => {
    const { client, cut } = agent.connect();
    const request = { sandboxId, operationId: newId('operation') };
    const call = client[method](request).then(
      () => 'answered',
      () => 'cut off',
    );
    await waitFor(
      { what: during, timeoutMs: 20_000, intervalMs: 2 },
      async () => (await drive.state(sandboxId)) === during,
    );
    cut();
    expect(await call).toBe('cut off');
    await expect.poll(() => drive.state(sandboxId)).toBe(after);
    await drive.expectOnly(after === 'RUNNING' ? 1 : 0, 1);
    // The control plane asks again with the same operation: it is told of the result, and nothing happens twice.
    const { generationId } = await drive.info(sandboxId);
    await agent.client[method](request);
    expect(await drive.info(sandboxId)).toMatchObject({ generationId, reason: '' });
  });

  it.each([
    ['3 days ahead', 3 * 86_400_000],
    ['1 hour back', -3_600_000],
  ])('sets the guest to the clock of a host that is %s', async (_what, offsetMs) => {
    await drive.pause(sandboxId);
    await agent.stop('SIGTERM');
    settings['NODE_OPTIONS'] =
      `--import=data:text/javascript,${encodeURIComponent(`const now = Date.now; Date.now = () => now() + ${offsetMs}`)}`;
    try {
      await agent.start();
      await drive.resume(sandboxId);
      const before = Date.now() + offsetMs;
      const guest = Number(await drive.sh(sandboxId, 'date +%s%3N'));
      const after = Date.now() + offsetMs;
      expect(guest).toBeGreaterThan(before - 1_000);
      expect(guest).toBeLessThan(after + 1_000);
    } finally {
      delete settings['NODE_OPTIONS'];
      await agent.stop('SIGTERM');
      await agent.start();
    }
  });

  it('lets a git clone that it stopped twice finish, with every object whole', async () => {
    await drive.sh(
      sandboxId,
      `mkdir /root/git; cd /root/git; git init -q --bare -b main bare; printf '[pack]\nwindow = 0\n' >> bare/config
      cat > history.py <<'PY'\n${history}\nPY
      python3 history.py | git -C bare fast-import --quiet
      cat > upload-pack <<'SH'\n${uploadPack}\nSH
      chmod +x upload-pack
      cat > clone <<'SH'\ngit clone --quiet --upload-pack=/root/git/upload-pack file:///root/git/bare copy; echo $? > /dev/shm/cloned\nSH
      nohup sh clone >clone.log 2>&1 &`,
    );
    await waitForGuest('test -e /dev/shm/half-sent');
    await drive.pause(sandboxId);
    await drive.resume(sandboxId);
    expect(await drive.sh(sandboxId, 'test -e /dev/shm/cloned || ls /root/git/copy/.git/objects/pack')).toMatch(
      /^tmp_/,
    );
    await drive.sh(sandboxId, 'touch /dev/shm/send-rest');
    // Now it receives, resolves and checks out for as long as it takes.
    await drive.pause(sandboxId);
    await drive.resume(sandboxId);
    await waitForGuest('test -s /dev/shm/cloned');
    const check = `cat /dev/shm/cloned clone.log; cd copy; git fsck --full --strict 2>&1; git status --porcelain
      test $(git rev-parse HEAD) = $(cat ../bare/refs/heads/main) && git ls-files | wc -l`;
    expect(await drive.sh(sandboxId, `cd /root/git; ${check}`)).toBe('0\n500');
  });

  it('stops a guest that does not answer hard when it is forced to, and starts it from its disk', async () => {
    await drive.sh(
      sandboxId,
      "echo kept > /root/kept; sync; nohup sh -c 'sleep 1; ip link set eth0 down' >/dev/null 2>&1 &",
    );
    const { hostAddress } = await drive.info(sandboxId);
    await waitFor({ what: 'the silence of the guest', timeoutMs: 30_000 }, () =>
      fetch(`http://${hostAddress}:49983/health`, { signal: AbortSignal.timeout(5_000) }).then(
        () => false,
        () => true,
      ),
    );
    const generation = await drive.pause(sandboxId, newId('operation'), { force: true });
    expect(generation).toMatchObject({ hasMemory: false, memoryBytes: 0n });
    expect(await drive.info(sandboxId)).toMatchObject({ reason: expect.stringContaining('stopped hard') });
    await drive.expectOnly(0, 1);
    const resumed = await drive.resume(sandboxId);
    expect(resumed).toMatchObject({ startPath: 'cold_fallback', reason: expect.stringContaining('stopped hard') });
    expect(await drive.sh(sandboxId, 'cat /root/kept')).toBe('kept');
  });

  it('keeps every acknowledged commit of a guest that is paused while it writes', async () => {
    await drive.sh(
      sandboxId,
      `cat > /root/commits.py <<'PY'\n${commits}\nPY
      nohup python3 /root/commits.py >/root/commits.log 2>&1 &
      nohup sh -c 'while :; do dd if=/dev/urandom of=/root/blob bs=64k count=32 conv=fsync status=none; done' >/dev/null 2>&1 &`,
    );
    await waitForGuest('test -e /dev/shm/acked');
    const acked = async () => Number(await drive.sh(sandboxId, 'cat /dev/shm/acked'));
    const check = `python3 -c "
import sqlite3
db = sqlite3.connect('/root/commits.db')
print(db.execute('pragma integrity_check').fetchone()[0], db.execute('select max(n), count(*) from t').fetchone())"`;
    for (let pass = 0; pass < 2; pass++) {
      const before = await acked();
      await drive.pause(sandboxId);
      await drive.resume(sandboxId);
      await waitFor(
        { what: 'a commit after the resume', timeoutMs: 20_000, intervalMs: 50 },
        async () => (await acked()) > before,
      );
    }
    const before = await acked();
    await drive.pause(sandboxId);
    // From the disk alone: what was acknowledged must have reached it, though nobody shut the guest down.
    const cold = await drive.resume(sandboxId, { cold: true });
    expect(cold?.startPath).toBe('cold_fallback');
    const [, verdict, max, count] = /^(\w+) \((\d+), (\d+)\)$/.exec(await drive.sh(sandboxId, check)) ?? [];
    expect(verdict).toBe('ok');
    expect(Number(max)).toBeGreaterThanOrEqual(before);
    expect(count).toBe(max);
    expect(await drive.sh(sandboxId, 'stat -c %s /root/blob')).toMatch(/^\d+$/);
    await drive.destroy(sandboxId);
    await drive.expectOnly(0, 0);
  });
});

/** A history for git of files that do not compress: about 1 MB. */
const history = `
import os, sys
out = sys.stdout.buffer
out.write(b"commit refs/heads/main\\ncommitter a <a@example.com> 0 +0000\\ndata 1\\n.\\n")
for n in range(500):
    content = os.urandom(2000)
    out.write(b"M 644 inline d%d/f%d\\ndata %d\\n%s\\n" % (n % 40, n, len(content), content))
`;

/** Serves a clone in two halves, the second when it is asked for, so that a pause comes in the middle however fast the guest is. */
const uploadPack = `#!/bin/sh
git upload-pack "$@" | {
  dd bs=4096 count=60 status=none
  touch /dev/shm/half-sent
  until test -e /dev/shm/send-rest; do sleep 0.1; done
  cat
}`;

/** Commits row after row, and says so only after the commit. */
const commits = `
import os, sqlite3
db = sqlite3.connect("/root/commits.db", isolation_level=None)
db.execute("pragma journal_mode=wal")
db.execute("pragma synchronous=full")
db.execute("create table if not exists t(n integer primary key)")
n = db.execute("select coalesce(max(n), 0) from t").fetchone()[0]
while True:
    n += 1
    db.execute("insert into t values (?)", (n,))
    with open("/dev/shm/acked.new", "w") as f: f.write(str(n))
    os.rename("/dev/shm/acked.new", "/dev/shm/acked")
`;
