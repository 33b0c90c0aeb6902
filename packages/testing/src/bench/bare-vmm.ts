import { type ChildProcess, spawn } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import type { ImageSet } from '@aviary/images';
import { runProgram, systemClock, waitFor } from '@aviary/service-kit';
import { execBuffered } from '../../../../apps/host-agent/src/guest/exec.ts';
import { GuestClient, sha256Hex } from '../../../../apps/host-agent/src/guest/guest-client.ts';

/**
 * The floor: a stock QEMU with the same guest and nothing of the product around it: no jail, no journal, no pool. Its network
 * slot exists before the clock starts, as a hand-written script would have it.
 */
export interface BareVm {
  guest: GuestClient;
  qmp(command: string, args?: object): Promise<unknown>;
  pid: number;
  kill(): Promise<void>;
}

const tokens = { hostToken: 'bench-host-token', accessToken: 'bench-access-token' };

export interface BareVmOptions {
  images: ImageSet;
  accelerator: string;
  directory: string;
  name: string;
  slot: { namespace: string; tapName: string; hostAddress: string; guestMac: string };
  /** The disk's backing file. */
  base: { path: string; format: 'raw' | 'qcow2' };
  memoryPath: string;
  /** Restore from this device state, RAM mapped privately. Unset boots. */
  statePath?: string;
}

/** Starts a bare microVM and waits until a command in it was answered. */
export async function startBareVm(options: BareVmOptions): Promise<BareVm> {
  const { images, accelerator, directory, name, slot, base, memoryPath, statePath } = options;
  const disk = path.join(directory, `${name}.qcow2`);
  await runProgram('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base.path, '-F', base.format, disk]);
  const socket = path.join(directory, `${name}.qmp`);
  const args = [
    ...['netns', 'exec', slot.namespace, 'qemu-system-x86_64', '-M', 'microvm,memory-backend=mem0'],
    ...[
      '-accel',
      accelerator === 'kvm' ? 'kvm' : 'tcg,thread=multi,tb-size=64',
      '-cpu',
      'max',
      '-smp',
      '1',
      '-m',
      '512',
    ],
    ...['-object', `memory-backend-file,id=mem0,size=512M,mem-path=${memoryPath},share=${statePath ? 'off' : 'on'}`],
    ...['-kernel', images.kernel.path, '-initrd', images.initramfs.path],
    ...['-append', `console=ttyS0 reboot=t panic=-1 quiet aviary.host_token_sha256=${sha256Hex(tokens.hostToken)}`],
    ...['-nodefaults', '-no-user-config', '-nographic', '-serial', 'null'],
    ...[
      '-blockdev',
      `driver=qcow2,node-name=root,file.driver=file,file.filename=${disk},file.locking=off,backing.file.locking=off`,
    ],
    ...['-device', 'virtio-blk-device,drive=root'],
    ...['-blockdev', `driver=raw,node-name=tools,read-only=on,file.driver=file,file.filename=${images.toolbox.path}`],
    ...['-device', 'virtio-blk-device,drive=tools'],
    ...[
      '-netdev',
      `tap,id=n0,ifname=${slot.tapName},script=no,downscript=no`,
      '-device',
      `virtio-net-device,netdev=n0,mac=${slot.guestMac}`,
    ],
    ...['-qmp', `unix:${socket},server=on,wait=off`, ...(statePath ? ['-incoming', 'defer'] : [])],
  ];
  const child = spawn('ip', args, { stdio: ['ignore', 'ignore', 'ignore'] });
  try {
    const qmp = await connectQmp(socket);
    await qmp('migrate-set-capabilities', { capabilities: [{ capability: 'x-ignore-shared', state: true }] });
    if (statePath) await loadState(qmp, path.join(directory, `${name}.load`), statePath);
    const guest = new GuestClient(slot.hostAddress, tokens);
    await guest.waitHealthy({ timeoutMs: 120_000 });
    await guest.init(
      { accessToken: tokens.accessToken, hostname: name, machineId: '0'.repeat(32), envVars: {}, defaultUser: 'user' },
      { timeoutMs: 10_000 },
    );
    await bareExec(guest);
    return { guest, qmp, pid: child.pid ?? 0, kill: () => end(child, guest) };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

/** One command, asked of the guest's agent directly. */
export async function bareExec(guest: GuestClient): Promise<void> {
  const result = await execBuffered(guest, { cmd: '/bin/true', args: [], envs: {}, user: 'user', timeoutSec: 30 });
  if (result.exitCode !== 0) throw new Error(`true exited with ${result.exitCode}`);
}

/** Stops the vCPUs and writes the device state to `statePath`; RAM is in its file already. */
export async function saveBareVm(vm: BareVm, statePath: string): Promise<void> {
  await vm.qmp('stop');
  const socketPath = `${statePath}.sock`;
  const { promise: written, resolve, reject } = Promise.withResolvers<void>();
  const server = net.createServer((socket) => {
    socket.pipe(createWriteStream(statePath)).on('finish', resolve).on('error', reject);
  });
  await new Promise<void>((listening) => server.listen(socketPath, listening));
  await vm.qmp('migrate', { uri: `unix:${socketPath}` });
  await migrated(vm.qmp);
  await written;
  server.close();
}

async function loadState(qmp: BareVm['qmp'], socketPath: string, statePath: string): Promise<void> {
  await qmp('migrate-incoming', { uri: `unix:${socketPath}` });
  const socket = net.connect(socketPath);
  createReadStream(statePath).pipe(socket);
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
  const socket = await waitFor({ what: `${socketPath} to accept`, timeoutMs: 10_000, intervalMs: 2 }, () => {
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
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) {
    await Promise.race([new Promise((resolve) => child.once('exit', resolve)), systemClock.sleep(5_000)]);
  }
}
