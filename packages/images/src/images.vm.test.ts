import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { must } from '@aviary/core';
import { runProgram, waitFor } from '@aviary/service-kit';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { buildImages } from './build-images.ts';
import { missingHostPackages } from './host-packages.ts';
import { type ImageSet, loadImages } from './image-set.ts';
import { imagesLayout } from './layout.ts';
import type { ImageProgress } from './progress.ts';
import { architectureFor } from './recipe.ts';

const guestAgentEntry = path.join(import.meta.dirname, '../fixtures/http-guest.ts');
let directory: string;
let dataDir: string;
let images: ImageSet;
let resumed: ImageProgress[];
let guest: Guest | undefined;

const build = async (onProgress: (progress: ImageProgress) => void = () => undefined) =>
  await buildImages({ dataDir, guestAgentEntry, onProgress });
const made = (progress: readonly ImageProgress[]) =>
  progress.flatMap((each) => (each.type === 'finished' && !each.isCached ? [each.step] : [])).sort();

beforeAll(async () => {
  expect(await missingHostPackages({ purposes: ['images', 'vmm'] })).toEqual([]);
  directory = await mkdtemp(path.join(process.env['AVIARY_TEST_DATA_DIR'] ?? tmpdir(), 'aviary-images-'));
  dataDir = path.join(directory, 'data');
  await killBuildAfterToolbox();
  resumed = [];
  images = await build((each) => resumed.push(each));
});
afterEach(async () => {
  await guest?.[Symbol.asyncDispose]();
  guest = undefined;
});
afterAll(async () => {
  if (directory) await rm(directory, { recursive: true, force: true });
});

/** Starts a build as a user does and kills it while it makes the root file system. */
async function killBuildAfterToolbox(): Promise<void> {
  const args = [path.join(import.meta.dirname, 'main.ts'), '--data-dir', dataDir, '--agent', guestAgentEntry];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = new Promise((resolve) => child.once('close', resolve));
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    if (output.includes('toolbox')) child.kill('SIGKILL');
  });
  await exited;
  expect(output).toMatch(/toolbox .*: built/);
  expect(await loadImages(dataDir)).toBeUndefined();
  await waitFor(
    { what: 'the end of the killed build’s programs', timeoutMs: 10_000 },
    async () => (await programsNaming(dataDir)).length === 0,
  );
}

async function programsNaming(text: string): Promise<readonly string[]> {
  const commands: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''); // it may have ended meanwhile
    if (command.includes(text)) commands.push(command.replaceAll('\0', ' '));
  }
  return commands;
}

test('a killed build goes on with what it had finished', async () => {
  expect(made(resumed)).toEqual(['minimal']);
  expect(await loadImages(dataDir)).toEqual(images);
  expect(existsSync(imagesLayout(dataDir).temporary)).toBe(false);
});

test('a second build makes nothing', async () => {
  const progress: ImageProgress[] = [];
  expect(await build((each) => progress.push(each))).toEqual(images);
  expect(made(progress)).toEqual([]);
});

test('the kernel lies with the images, and none was installed', async () => {
  expect(images.kernel.path.startsWith(dataDir)).toBe(true);
  const release = must(images.kernel.version.split('_')[0], 'a version starts with the release');
  expect(existsSync(`/boot/vmlinuz-${release}`)).toBe(false);
});

test('the root file system has the account and nothing of the machine that made it', async () => {
  const read = async (file: string) =>
    (await runProgram('/usr/sbin/debugfs', ['-R', `cat ${file}`, images.minimal.rootfsPath])).stdout;
  expect(await read('/etc/passwd')).toMatch(/^user:x:1000:1000:[^:]*:\/home\/user:\/bin\/bash$/m);
  expect(await read('/etc/hostname')).toBe('sandbox\n');
  expect(await read('/etc/machine-id')).toBe('');
  expect(await read('/etc/resolv.conf')).toBe('');
  const { stdout } = await runProgram('du', ['--block-size=1M', images.minimal.rootfsPath]);
  expect(Number(stdout.split('\t')[0])).toBeLessThan(460);
});

test('the same inputs give the same toolbox', async () => {
  await rm(images.toolbox.path);
  await rm(imagesLayout(dataDir).stepRecord('toolbox'));
  const progress: ImageProgress[] = [];
  const again = await build((each) => progress.push(each));
  expect(made(progress)).toEqual(['toolbox']);
  expect(again.toolbox).toEqual(images.toolbox);
});

describe('a guest on a larger drive, with the drives in the other order', () => {
  let booted: Guest;
  beforeAll(async () => {
    booted = await bootGuest({ drives: ['toolbox', 'root'], kernelParameters: 'aviary.hostname=nest' });
  });
  afterAll(() => booted?.[Symbol.asyncDispose]());
  const lines = async (...commands: readonly string[]) =>
    (await booted.exec(`{ ${commands.join('; ')}; } 2>&1`)).split('\n').flatMap((line) => line.trim() || []);

  test('has its system set up, and its agent answers', async () => {
    const answer = await lines(
      'hostname; stat -f -c %T /sys/fs/cgroup; stat -c %a /dev/shm; readlink /dev/fd',
      'sudo -u user sudo -n id -u; df --output=size --block-size=G / | tail -1',
      'cat /etc/resolv.conf; touch /.aviary/x; ls /.aviary; locale | head -1',
    );
    expect(answer).toEqual([
      ...['nest', 'cgroup2fs', '1777', '/proc/self/fd', '0', '8G'],
      ...['nameserver 1.1.1.1', 'nameserver 8.8.8.8'],
      ...["touch: cannot touch '/.aviary/x': Read-only file system", 'agent', 'bin', 'lib', 'modules', 'LANG=C.UTF-8'],
    ]);
  });

  test('loads what containers, FUSE and VPNs need when something asks for it', async () => {
    const modules = 'bridge|veth|fuse|tun|dummy|loop|wireguard|br_netfilter|nf_conntrack';
    expect(await lines(`lsmod | grep -cE "^(${modules}) "`)).toEqual(['0']);
    const answer = await lines(
      'modprobe -a br_netfilter veth nf_conntrack && echo asked',
      'ip link add br0 type bridge && ip link add v0 type veth peer name v1 && ip link set v1 master br0',
      'ip link add d0 type dummy && ip link add w0 type wireguard && ls /sys/class/net/br0/brif',
      `python3 -c 'import os; os.open("/dev/fuse", 2); os.open("/dev/net/tun", 2); print("opened")'`,
      'mkdir -p /run/o/u /run/o/w /run/o/m && mount -t overlay -o lowerdir=/etc,upperdir=/run/o/u,workdir=/run/o/w o /run/o/m',
      'cat /run/o/m/hostname; truncate -s 1M /run/o/i && losetup --find --show /run/o/i',
      `lsmod | grep -cE "^(${modules}) "`,
    );
    expect(answer).toEqual(['asked', 'v1', 'opened', 'sandbox', '/dev/loop0', '9']);
  });

  test('loads modules for a root file system that brings no modprobe', async () => {
    const answer = await lines(
      'lsmod | grep -c "^macvlan "; echo /.aviary/bin/modprobe >/proc/sys/kernel/modprobe',
      'ip link add m0 link d0 type macvlan; lsmod | grep -c "^macvlan "',
    );
    expect(answer).toEqual(['0', '1']);
  });

  test('has Python as a developer expects it', async () => {
    const answer = await lines(
      // Unpacking pip into an environment takes a minute on a software CPU; that it can be is what the wheels are for.
      'python -m venv --without-pip /tmp/v && /tmp/v/bin/python -c "import ensurepip; print(bool(ensurepip.version()))"',
      'pip --version | cut -d" " -f1; pip config list',
      'echo 1 | jq .; for name in file make rsync tmux unzip wget zip; do command -v $name >/dev/null || echo no $name; done',
    );
    expect(answer).toEqual(['True', 'pip', "global.break-system-packages='true'", '1']);
  });
});

test('a guest without its toolbox says so on the console and ends', async () => {
  guest = await bootGuest({ drives: ['root'] });
  const { vmm, console } = guest;
  await waitFor({ what: 'the end of the guest', timeoutMs: 60_000 }, () => vmm.exitCode !== null);
  expect(console()).toContain('aviary-init: needs two virtio drives');
});

interface Guest extends AsyncDisposable {
  vmm: ChildProcess;
  console: () => string;
  /** What a shell command in the guest printed. Waits for the agent. */
  exec: (command: string) => Promise<string>;
}

async function bootGuest(options: {
  drives: readonly ('root' | 'toolbox')[];
  kernelParameters?: string;
}): Promise<Guest> {
  const layer = path.join(directory, `layer-${options.drives.length}.qcow2`);
  await runProgram('qemu-img', [
    ...['create', '-q', '-f', 'qcow2', '-b', images.minimal.rootfsPath, '-F', 'raw', layer, '8G'],
  ]);
  const drives = {
    root: `driver=qcow2,node-name=root,file.driver=file,file.filename=${layer}`,
    toolbox: `driver=raw,node-name=toolbox,read-only=on,file.driver=file,file.filename=${images.toolbox.path}`,
  };
  const port = await freePort();
  const parameters = `console=ttyS0 reboot=t panic=-1 quiet ${await clockParameter()} ${options.kernelParameters ?? ''}`;
  const forward = `hostfwd=tcp:127.0.0.1:${port}-169.254.0.21:49983`;
  const vmm = spawn(
    architectureFor().qemuProgram,
    [
      ...['-M', 'microvm', '-accel', 'tcg,tb-size=64', '-cpu', 'max', '-smp', '1', '-m', '512', '-no-reboot'],
      ...['-nodefaults', '-no-user-config', '-nographic', '-serial', 'stdio'],
      ...['-kernel', images.kernel.path, '-initrd', images.initramfs.path, '-append', parameters],
      ...options.drives.flatMap((name) => ['-blockdev', drives[name], '-device', `virtio-blk-device,drive=${name}`]),
      ...['-netdev', `user,id=net,restrict=on,net=169.254.0.20/30,host=169.254.0.22,dhcpstart=169.254.0.21,${forward}`],
      ...['-device', 'virtio-net-device,netdev=net'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  vmm.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const exited = new Promise((resolve) => vmm.once('close', resolve));
  return {
    vmm,
    console: () => output,
    exec: (command) =>
      waitFor({ what: `an answer of the guest's agent`, timeoutMs: 90_000, intervalMs: 100 }, async () => {
        if (vmm.exitCode !== null) throw new Error(`the guest ended: ${output.slice(-2_000)}`);
        return await execInGuest(port, command).catch(() => undefined);
      }),
    [Symbol.asyncDispose]: async () => {
      vmm.kill('SIGKILL');
      await exited;
    },
  };
}

/** On a busy host the guest cannot measure its software CPU's clock, and hangs: it is told the host's, where there is one. */
async function clockParameter(): Promise<string> {
  const mhz = /^cpu MHz\s*: ([\d.]+)$/m.exec(await readFile('/proc/cpuinfo', 'utf8'))?.[1];
  return mhz === undefined ? '' : `tsc_early_khz=${Math.round(Number(mhz) * 1000)}`;
}

function execInGuest(port: number, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.get({
      host: '127.0.0.1',
      port,
      path: `/exec?c=${encodeURIComponent(command)}`,
      timeout: 60_000,
    });
    request.once('error', reject);
    request.once('timeout', () => request.destroy(new Error('no answer')));
    request.once('response', (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      response.once('error', reject);
      response.once('end', () => resolve((JSON.parse(body) as { stdout: string }).stdout));
    });
  });
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
