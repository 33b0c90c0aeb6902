import { type ChildProcess, spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { errorText } from '@aviary/core';
import { execBuffered, GuestClient, type NetworkSlot, sha256Hex } from '@aviary/host-agent/testing';
import type { ImageSet } from '@aviary/images';
import { readTscKhz } from '@aviary/linux/tsc';
import { runProgram, systemClock, waitFor } from '@aviary/service-kit';

/**
 * The floor: a stock QEMU with the same guest and nothing of the product around it: no jail, no journal, no pool, no identity
 * given to the guest. Its network slot and its disk exist before the clock starts, as a hand-written script would have them.
 */
export interface BareVm {
  guest: GuestClient;
  pid: number;
  qmp(command: string, args?: object): Promise<unknown>;
  kill(): Promise<void>;
}

const tokens = { hostToken: 'bench-host-token', accessToken: 'bench-access-token' };
const memoryMib = 512;

export interface BareVmOptions {
  images: ImageSet;
  accelerator: string;
  directory: string;
  name: string;
  slot: NetworkSlot;
  /** The disk, ready made by {@link createBareDisk}. */
  diskPath: string;
  memoryPath: string;
  /** Restore from this device state, RAM mapped privately. Unset boots. */
  statePath?: string;
}

/** A disk layer on `base`. */
export async function createBareDisk(
  diskPath: string,
  base: { path: string; format: 'raw' | 'qcow2' },
): Promise<string> {
  await runProgram('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base.path, '-F', base.format, diskPath]);
  return diskPath;
}

/** Starts a bare microVM and waits until a command in it was answered. */
export async function startBareVm(options: BareVmOptions): Promise<BareVm> {
  const { directory, name, slot, statePath } = options;
  const socket = path.join(directory, `${name}.qmp`);
  const args = await commandLine(options, socket);
  const child = spawn('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-4_000);
  });
  const guest = new GuestClient(slot.hostAddress, tokens);
  try {
    const qmp = await connectQmp(socket);
    await qmp('migrate-set-capabilities', { capabilities: [{ capability: 'x-ignore-shared', state: true }] });
    if (statePath) {
      await loadState(qmp, path.join(directory, `${name}.load`), statePath);
    } else {
      await guest.waitHealthy({ timeoutMs: 120_000 });
      const identity = { hostname: name, machineId: '0'.repeat(32), envVars: {}, defaultUser: 'user' };
      await guest.init({ ...identity, accessToken: tokens.accessToken }, { timeoutMs: 10_000 });
    }
    await bareExec(guest);
    return { guest, qmp, pid: child.pid ?? 0, kill: () => end(child, guest) };
  } catch (error) {
    await end(child, guest);
    throw new Error(`the bare microVM ${name} did not start: ${errorText(error)}; ${log}`, { cause: error });
  }
}

async function commandLine(options: BareVmOptions, socket: string): Promise<string[]> {
  const { images, accelerator, slot, diskPath, memoryPath, statePath } = options;
  const isTcg = accelerator === 'tcg';
  const khz = isTcg ? await readTscKhz() : undefined;
  const kernelParameters = [
    ...['console=ttyS0', 'reboot=t', 'panic=-1', 'quiet'],
    ...(khz === undefined ? [] : [`tsc_early_khz=${khz}`]),
    `aviary.host_token_sha256=${sha256Hex(tokens.hostToken)}`,
  ];
  const memory = `memory-backend-file,id=mem0,size=${memoryMib}M,mem-path=${memoryPath}`;
  return [
    ...['netns', 'exec', slot.namespace, 'qemu-system-x86_64', '-M', 'microvm,rtc=on,memory-backend=mem0'],
    ...['-accel', isTcg ? 'tcg,thread=multi,tb-size=64' : 'kvm', '-cpu', isTcg ? 'max' : 'host'],
    ...['-smp', '1', '-m', `${memoryMib}M`, '-object', `${memory},share=${statePath ? 'off' : 'on'}`],
    ...['-kernel', images.kernel.path, '-initrd', images.initramfs.path, '-append', kernelParameters.join(' ')],
    ...['-nodefaults', '-no-user-config', '-nographic', '-serial', 'null'],
    ...['-blockdev', `driver=qcow2,node-name=root,file.driver=file,file.filename=${diskPath}`],
    ...['-device', 'virtio-blk-device,drive=root'],
    ...['-blockdev', `driver=raw,node-name=tools,read-only=on,file.driver=file,file.filename=${images.toolbox.path}`],
    ...['-device', 'virtio-blk-device,drive=tools'],
    ...['-netdev', `tap,id=n0,ifname=${slot.tapName},script=no,downscript=no`],
    ...['-device', `virtio-net-device,netdev=n0,mac=${slot.guestMac}`],
    ...['-qmp', `unix:${socket},server=on,wait=off`, ...(statePath ? ['-incoming', 'defer'] : [])],
  ];
}

/** One command, asked of the guest's agent directly. */
export async function bareExec(guest: GuestClient): Promise<void> {
  const result = await execBuffered(guest, { cmd: '/bin/true', args: [], envs: {}, user: 'user', timeoutSec: 30 });
  if (result.end?.exitCode !== 0) throw new Error(`true exited with ${result.end?.exitCode}`);
}

/**
 * Stops the vCPUs and makes device state and RAM durable: the state goes to `statePath`, RAM is in its file already and is
 * flushed. The microVM may go on after (`cont`).
 */
export async function saveBareVm(
  vm: BareVm,
  { statePath, memoryPath }: { statePath: string; memoryPath: string },
): Promise<void> {
  await vm.qmp('stop');
  const socketPath = `${statePath}.sock`;
  const received = Promise.withResolvers<Buffer[]>();
  const server = net.createServer((socket) => {
    Array.fromAsync<Buffer>(socket).then(received.resolve, received.reject);
  });
  await new Promise<void>((listening) => server.listen(socketPath, listening));
  try {
    await vm.qmp('migrate', { uri: `unix:${socketPath}` });
    await migrated(vm.qmp);
    await using target = await open(statePath, 'w');
    await target.writeFile(Buffer.concat(await received.promise));
    await using memory = await open(memoryPath, 'r');
    await Promise.all([target.sync(), memory.sync()]);
  } finally {
    server.close();
  }
}

async function loadState(qmp: BareVm['qmp'], socketPath: string, statePath: string): Promise<void> {
  await qmp('migrate-incoming', { uri: `unix:${socketPath}` });
  // QEMU closes the stream as soon as it has read the last byte.
  await pipeline(createReadStream(statePath), net.connect(socketPath)).catch(() => undefined);
  await migrated(qmp);
  await qmp('cont');
}

async function migrated(qmp: BareVm['qmp']): Promise<void> {
  await waitFor({ what: 'the end of the migration', timeoutMs: 30_000, intervalMs: 1 }, async () => {
    const { status } = (await qmp('query-migrate')) as { status?: string };
    if (status === 'failed') throw new Error('migration failed');
    return status === 'completed';
  });
}

async function connectQmp(socketPath: string): Promise<BareVm['qmp']> {
  const socket = await waitFor({ what: `${socketPath} to accept`, timeoutMs: 10_000, intervalMs: 1 }, () => {
    return new Promise<net.Socket | undefined>((resolve) => {
      const attempt = net.connect(socketPath, () => resolve(attempt));
      attempt.on('error', () => resolve(undefined));
    });
  });
  const waiting: ((message: { return?: unknown; error?: { desc: string } }) => void)[] = [];
  let buffer = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    buffer += text;
    for (let end = buffer.indexOf('\n'); end >= 0; end = buffer.indexOf('\n')) {
      const message = JSON.parse(buffer.slice(0, end));
      buffer = buffer.slice(end + 1);
      if ('return' in message || 'error' in message) waiting.shift()?.(message);
    }
  });
  socket.on('close', () => {
    for (const answer of waiting.splice(0)) answer({ error: { desc: 'QEMU closed its control socket' } });
  });
  const qmp: BareVm['qmp'] = (execute, args) =>
    new Promise((resolve, reject) => {
      waiting.push((message) => (message.error ? reject(new Error(message.error.desc)) : resolve(message.return)));
      socket.write(`${JSON.stringify({ execute, ...(args ? { arguments: args } : {}) })}\n`);
    });
  await qmp('qmp_capabilities');
  return qmp;
}

async function end(child: ChildProcess, guest: GuestClient): Promise<void> {
  guest[Symbol.dispose]();
  const ended = new Promise((resolve) => child.once('exit', resolve));
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await Promise.race([ended, systemClock.sleep(5_000)]);
}
