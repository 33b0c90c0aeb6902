import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { type ProgramResult, type RunProgramOptions, runProgram, silentLogger } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { prepareHost, removePrefix } from './host-network.ts';
import type { SlotPool } from './network-slot.ts';
import { KernelSlots } from './slot.ts';
import { guestMac, type SlotAddress, slotIndexOf } from './slot-address.ts';
import { createSlotPool } from './slot-pool.ts';

// Nothing here touches the machine's own network: `nthost` plays the host, `ntnet` the internet behind it, `ntguest1` and
// `ntguest2` the guests, each at the other end of a veth pair where a microVM would be at the other end of a tap.
const host = 'nthost';
const internet = 'ntnet';
const guests = ['ntguest1', 'ntguest2'] as const;
const hostPublicAddress = '198.51.100.2';
const internetAddress = '203.0.113.1';
const privateAddresses = ['10.99.0.1', '172.20.0.1', '192.168.77.1', '100.64.0.9', '169.254.169.254'];
const port = 8080;

const slots = new KernelSlots(
  { run: runProgram },
  {
    prefix: 'nt',
    hostNamespace: host,
    guestLink: ({ index }) => [`link add tap0 type veth peer name eth0 netns ntguest${index}`],
  },
);
/** The same host with taps, as in production. */
const tapSlots = new KernelSlots({ run: runProgram }, { prefix: 'nt', hostNamespace: host });

const servers: ChildProcess[] = [];
/** Stands for /dev/net/tun, whose mode is not the tests' to change. */
let directory: string;
let tunDevice: string;

/** Answers TCP with its name, the peer's address and the datagrams it got so far. Prints a line once it listens. */
const serverProgram = `
const seen = [];
const udp = require('node:dgram').createSocket('udp4').on('message', (data) => seen.push(String(data)));
udp.bind(${port}, () => require('node:net').createServer((socket) => {
  socket.on('error', () => socket.destroy());
  socket.end([process.argv[1], socket.remoteAddress.replace('::ffff:', ''), ...seen].join(' '));
}).listen(${port}, '0.0.0.0', () => console.log('listening')));
`;

/** Connects to every address at once; prints what each said, or the error's code. */
const clientProgram = `
const answers = {};
let open = process.argv.length - 1;
for (const address of process.argv.slice(1)) {
  const socket = require('node:net').connect({ host: address, port: ${port}, timeout: 1500 });
  const done = (answer) => {
    if (address in answers) return;
    answers[address] = answer;
    socket.destroy();
    if (--open === 0) console.log(JSON.stringify(answers));
  };
  let text = '';
  socket.on('data', (data) => { text += data; });
  socket.on('end', () => done(text));
  socket.on('error', (error) => done(error.code));
  socket.on('timeout', () => done('timeout'));
}
`;

const enter = (namespace: string, ...command: string[]) => ({
  file: 'nsenter',
  args: [`--net=/run/netns/${namespace}`, ...command],
});

const inside = (namespace: string, ...command: string[]) => {
  const { file, args } = enter(namespace, ...command);
  return runProgram(file, args, { timeoutMs: 20_000 });
};

const ip = (namespace: string, commands: string) =>
  runProgram('ip', ['-n', namespace, '-batch', '-'], { input: commands });

const nodeFlags = ['--no-warnings', '-e'];

async function serve(namespace: string): Promise<void> {
  const { file, args } = enter(namespace, process.execPath, ...nodeFlags, serverProgram, namespace);
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  servers.push(child);
  for await (const _line of createInterface({ input: child.stdout })) return;
  throw new Error(`the server in ${namespace} ended`);
}

async function connect(namespace: string, ...addresses: string[]): Promise<Record<string, string>> {
  const { stdout } = await inside(namespace, process.execPath, ...nodeFlags, clientProgram, ...addresses);
  return JSON.parse(stdout);
}

async function sendDatagram(namespace: string, text: string, from: string): Promise<void> {
  const program = `
    const socket = require('node:dgram').createSocket('udp4');
    socket.bind(0, process.argv[1], () => socket.send(process.argv[2], ${port}, '${internetAddress}', () => socket.close()));`;
  await inside(namespace, process.execPath, ...nodeFlags, program, from, text);
}

/** Every namespace, link on the host and nft table there: what a leak would show in. */
async function kernelState() {
  const [{ stdout: links }, { stdout: tables }, namespaces] = await Promise.all([
    inside(host, 'ip', '-json', 'link', 'show'),
    inside(host, 'nft', 'list', 'tables'),
    readdir('/run/netns'),
  ]);
  return {
    links: (JSON.parse(links) as { ifname: string }[]).map(({ ifname }) => ifname).sort(),
    tables,
    namespaces: namespaces.filter((name) => name.startsWith('nt-')).sort(),
  };
}

async function plugGuestIn(slot: SlotAddress): Promise<void> {
  await ip(
    `ntguest${slot.index}`,
    `link set lo up
link set eth0 address ${guestMac}
addr add 169.254.0.21/30 dev eth0
link set eth0 up
route add default via 169.254.0.22
`,
  );
}

async function removeAll(): Promise<void> {
  const exits = servers.splice(0).map((child) => {
    const exited = new Promise((resolve) => child.once('exit', resolve));
    const isGone = child.exitCode !== null || child.signalCode !== null;
    child.kill('SIGKILL');
    return isGone ? undefined : exited;
  });
  await Promise.all(exits);
  const ours = (await readdir('/run/netns')).filter((name) => /^nt(-\d+|host|net|guest[12])$/.test(name));
  // The host last: while it lives, its links can be removed at once.
  for (const name of ours.filter((each) => each !== host)) {
    const index = slotIndexOf(name, 'nt');
    if (index !== undefined && ours.includes(host)) await slots.remove(index);
    else await runProgram('ip', ['netns', 'del', name]);
  }
  if (ours.includes(host)) await runProgram('ip', ['netns', 'del', host]);
}

describe('network slots in the kernel', () => {
  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'aviary-network-'));
    tunDevice = path.join(directory, 'tun');
    await writeFile(tunDevice, '', { mode: 0o600 });
    await removeAll().catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error; // no namespace was ever made
    });
    for (const name of [host, internet, ...guests]) await runProgram('ip', ['netns', 'add', name]);
    await ip(
      host,
      `link add up0 type veth peer name eth0 netns ${internet}
addr add ${hostPublicAddress}/24 dev up0
link set up0 up
link set lo up
route add default via 198.51.100.1
`,
    );
    await ip(
      internet,
      `addr add 198.51.100.1/24 dev eth0
link set eth0 up
link set lo up
${[internetAddress, ...privateAddresses].map((address) => `addr add ${address}/32 dev lo`).join('\n')}
route add 10.11.0.0/16 via ${hostPublicAddress}
`,
    );
    await prepareHost(slots, silentLogger);
    await Promise.all([serve(host), serve(internet)]);
  });

  afterAll(async () => {
    await removeAll();
    await rm(directory, { recursive: true });
  });

  describe('two guests', () => {
    let first: SlotAddress;
    let second: SlotAddress;

    beforeAll(async () => {
      first = await slots.build(1);
      second = await slots.build(2);
      await plugGuestIn(first);
      await plugGuestIn(second);
      await Promise.all([...guests.map(serve), serve(first.namespace)]);
    });

    afterAll(async () => {
      await slots.remove(1);
      await slots.remove(2);
    });

    test('the host reaches each guest at its own address, and no guest learns which slot it is in', async () => {
      expect(await connect(host, first.hostAddress, second.hostAddress)).toEqual({
        [first.hostAddress]: 'ntguest1 169.254.0.22',
        [second.hostAddress]: 'ntguest2 169.254.0.22',
      });
      const addresses = [first.vethSlotAddress, first.vethHostAddress, first.hostAddress];
      await ip(guests[0], addresses.map((address) => `route add ${address}/32 dev eth0\n`).join(''));
      expect(Object.values(await connect(guests[0], ...addresses))).toEqual(
        addresses.map(() => expect.stringMatching(/^(EHOSTUNREACH|timeout)$/)),
      );
      const { stdout } = await inside(guests[0], 'ip', '-json', 'neigh', 'show', 'dev', 'eth0');
      const answered = (JSON.parse(stdout) as { dst: string; lladdr?: string }[]).filter(({ lladdr }) => lladdr);
      for (const address of addresses) expect(answered.map(({ dst }) => dst)).not.toContain(address);
      await ip(guests[0], addresses.map((address) => `route del ${address}/32 dev eth0\n`).join(''));
    });

    test('a guest reaches the internet, which sees the host’s address', async () => {
      expect(await connect(guests[0], internetAddress)).toEqual({ [internetAddress]: `ntnet ${hostPublicAddress}` });
    });

    test('a guest does not reach the other guest', async () => {
      const targets = [second.hostAddress, second.vethSlotAddress];
      const answers = await connect(guests[0], ...targets);
      for (const target of targets) expect(answers[target]).toBe('ECONNREFUSED');
    });

    test('a guest does not reach the host at any of its addresses, nor its own namespace', async () => {
      const targets = [hostPublicAddress, first.vethHostAddress, second.vethHostAddress, '169.254.0.22'];
      for (const answer of Object.values(await connect(guests[0], ...targets)))
        expect(['ECONNREFUSED', 'timeout']).toContain(answer);
      // The servers are there: the host itself gets an answer.
      expect(Object.values(await connect(host, hostPublicAddress))).toEqual([`nthost ${hostPublicAddress}`]);
    });

    test('a guest does not reach private ranges or the metadata address that the host reaches, and learns it at once', async () => {
      for (const answer of Object.values(await connect(host, ...privateAddresses))) expect(answer).toMatch(/^ntnet /);
      for (const answer of Object.values(await connect(guests[0], ...privateAddresses)))
        expect(answer).toBe('ECONNREFUSED');
    });

    test('a neighbour that routes to guests through the host does not reach them', async () => {
      expect(await connect(internet, first.hostAddress)).toEqual({ [first.hostAddress]: 'timeout' });
    });

    test('datagrams with a false source address or MAC do not get out', async () => {
      await ip(guests[0], `addr add ${second.vethSlotAddress}/32 dev lo\naddr add 198.51.100.77/32 dev lo\n`);
      await sendDatagram(guests[0], 'as-other-guest', second.vethSlotAddress);
      await sendDatagram(guests[0], 'as-neighbour', '198.51.100.77');
      await ip(guests[0], 'link set eth0 address 02:00:00:00:00:99\n');
      await sendDatagram(guests[0], 'false-mac', '169.254.0.21');
      await ip(guests[0], `link set eth0 address ${guestMac}\n`);
      await sendDatagram(guests[0], 'honest', '169.254.0.21');
      expect(Object.values(await connect(host, internetAddress))).toEqual([`ntnet ${hostPublicAddress} honest`]);
      // They end in the slot itself; the host's own check, behind it, sees none of them.
      const slotChain = await inside(first.namespace, 'nft', 'list', 'chain', 'inet', 'aviary', 'prerouting');
      expect(slotChain.stdout).toMatch(/ether saddr != \S+ counter packets [1-9]/);
      expect(slotChain.stdout).toMatch(/ip saddr != \S+ counter packets [1-9]/);
      const hostChain = await inside(host, 'nft', 'list', 'chain', 'inet', 'aviary_nt', 'prerouting');
      expect(hostChain.stdout).toMatch(/fib saddr \. iif oif missing counter packets 0 /);
    });

    test('a forward chain that drops, as Docker’s does, keeps nobody from the internet and nothing is added twice', async () => {
      await inside(
        host,
        'nft',
        'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }',
      );
      try {
        expect(await connect(guests[0], internetAddress)).toEqual({ [internetAddress]: 'timeout' });
        await prepareHost(slots, silentLogger);
        await prepareHost(slots, silentLogger);
        expect(await connect(guests[0], internetAddress)).toEqual({
          [internetAddress]: expect.stringContaining('ntnet'),
        });
        const { stdout } = await inside(host, 'nft', 'list', 'chain', 'ip', 'filter', 'FORWARD');
        expect(stdout.match(/nt-\*/g)).toHaveLength(2);
      } finally {
        await inside(host, 'nft', 'delete table ip filter');
      }
    });

    test('building a slot that exists is refused and leaves it working', async () => {
      await expect(slots.build(1)).rejects.toMatchObject({ code: 'already_exists' });
      expect(Object.values(await connect(host, first.hostAddress))).toEqual(['ntguest1 169.254.0.22']);
    });
  });

  test('the tap belongs to the slot’s uid', async () => {
    const slot = await tapSlots.build(3);
    try {
      const { stdout } = await inside(slot.namespace, 'ip', '-details', '-json', 'link', 'show', 'dev', slot.tapName);
      const [tap] = JSON.parse(stdout);
      expect(tap.linkinfo.info_data).toMatchObject({ type: 'tap', vnet_hdr: true, persist: true });
      expect(String(tap.linkinfo.info_data.user)).toBe(String(slot.uid));
      expect(tap.address).toBe('02:00:a9:fe:00:16');
    } finally {
      await tapSlots.remove(3);
    }
  });

  test('a build that fails anywhere leaves nothing', async () => {
    const before = await kernelState();
    // How each program call can go wrong: not at all run, stopped after any of its lines, or run and reported as failed.
    const inputs: string[] = [];
    const recording = new KernelSlots({ run: recordInputs(inputs) }, { prefix: 'nt', hostNamespace: host });
    await recording.build(4);
    await recording.remove(4);
    const places = inputs.flatMap((input, call) => {
      const lineCount = input.startsWith('table') ? 1 : input.split('\n').length - 1;
      return Array.from({ length: lineCount + 1 }, (_, keptLines) => ({ call, keptLines }));
    });
    expect(places.length).toBeGreaterThan(15);
    for (const place of places) {
      const failing = new KernelSlots({ run: failAt(place) }, { prefix: 'nt', hostNamespace: host });
      await expect(failing.build(4)).rejects.toMatchObject({ message: expect.stringContaining('injected') });
      expect(await kernelState(), JSON.stringify(place)).toEqual(before);
    }
  });

  test('removal goes on after a failed step and reports it', async () => {
    const slot = await tapSlots.build(4);
    const run = (file: string, args: readonly string[], options?: RunProgramOptions): Promise<ProgramResult> =>
      args.includes('del') && args.includes('link')
        ? Promise.reject(new Error('injected'))
        : runProgram(file, args, options);
    await expect(new KernelSlots({ run }, { prefix: 'nt', hostNamespace: host }).remove(4)).rejects.toMatchObject({
      message: expect.stringContaining('injected'),
    });
    expect((await kernelState()).namespaces).not.toContain(slot.namespace);
    await tapSlots.remove(4);
    await tapSlots.remove(4);
    expect(await tapSlots.scan()).toEqual([]);
  });

  test('reclaim removes what a crash left, whole or in parts, and keeps what is in use', async () => {
    const before = await kernelState();
    await tapSlots.build(11);
    await tapSlots.build(12);
    await ip(host, 'link add nt-13 type veth peer name nt-14\n');
    await runProgram('ip', ['netns', 'add', 'nt-15']);
    const pool = newPool({ size: 1, firstIndex: 11, maxSlots: 10 });
    await pool.reclaim(new Set([12]));
    expect((await stat(tunDevice)).mode & 0o777).toBe(0o666);
    expect(await pool.adopt(12)).toMatchObject({ index: 12, namespace: 'nt-12' });
    const slot = await pool.acquire();
    // Two may be built at once, for the one who waits and for the pool; the one that is ready first is given.
    expect([11, 13]).toContain(slot.index);
    await pool[Symbol.asyncDispose]();
    expect(await tapSlots.scan()).toEqual([slot.index, 12].sort((a, b) => a - b));
    await tapSlots.remove(slot.index);
    await tapSlots.remove(12);
    expect(await kernelState()).toEqual(before);
  });

  test('names that collide: what bears another agent’s mark is neither built over, taken nor removed', async () => {
    const theirs = new KernelSlots({ run: runProgram }, { prefix: 'nt', hostNamespace: host, owner: 'them' });
    const mine = new KernelSlots({ run: runProgram }, { prefix: 'nt', hostNamespace: host, owner: 'me' });
    await theirs.build(40);
    await mine.build(41);
    const before = await kernelState();
    expect(await mine.scan()).toEqual([41]);
    expect(await mine.isForeign(40)).toBe(true);
    await expect(mine.build(40)).rejects.toMatchObject({ code: 'already_exists' });
    await expect(mine.remove(40)).rejects.toThrow('belongs to another host agent');
    const options = { prefix: 'nt', hostNamespace: host, owner: 'me', tunDevice, size: 0, firstIndex: 40, maxSlots: 4 };
    await using pool = createSlotPool({ logger: silentLogger }, options);
    await pool.reclaim(new Set([40, 41]));
    await expect(pool.adopt(40)).rejects.toMatchObject({ code: 'conflict' });
    await pool.release(await pool.adopt(41));
    await removePrefix(mine, silentLogger);
    expect((await kernelState()).namespaces).toEqual(before.namespaces.filter((name) => name !== 'nt-41'));
    await prepareHost(slots, silentLogger);
    await theirs.remove(40);
  });

  test('fifty rounds through the pool leak nothing', async () => {
    const before = await kernelState();
    const pool = newPool({ size: 2, firstIndex: 21, maxSlots: 4 });
    await pool.reclaim(new Set());
    const waitsMs: number[] = [];
    const startedAt = performance.now();
    for (let round = 0; round < 50; round++) {
      const askedAt = performance.now();
      const slot = await pool.acquire();
      waitsMs.push(performance.now() - askedAt);
      await pool.release(slot);
    }
    const roundMs = (performance.now() - startedAt) / 50;
    await pool[Symbol.asyncDispose]();
    expect(await kernelState()).toEqual(before);
    waitsMs.sort((a, b) => a - b);
    console.info(
      `acquire: median ${waitsMs[25]?.toFixed(2)} ms, slowest ${waitsMs[49]?.toFixed(1)} ms; acquire and release: ${roundMs.toFixed(1)} ms`,
    );
  });
});

function newPool(options: { size: number; firstIndex: number; maxSlots: number }): SlotPool {
  return createSlotPool({ logger: silentLogger }, { prefix: 'nt', hostNamespace: host, tunDevice, ...options });
}

function recordInputs(inputs: string[]): typeof runProgram {
  return (file, args, options) => {
    if (options?.input !== undefined) inputs.push(String(options.input));
    return runProgram(file, args, options);
  };
}

/** Of the `call`th program with input, runs the first `keptLines` lines (a rule set: nothing or all), then says it failed. */
function failAt({ call, keptLines }: { call: number; keptLines: number }): typeof runProgram {
  let seen = 0;
  return async (file, args, options) => {
    if (options?.input === undefined || seen++ !== call) return runProgram(file, args, options);
    const text = String(options.input);
    const input = text.startsWith('table') ? text : `${text.split('\n').slice(0, keptLines).join('\n')}\n`;
    if (keptLines > 0) await runProgram(file, args, { ...options, input });
    throw new Error(`injected after ${keptLines} lines of call ${call}`);
  };
}
