import { AppError } from '@aviary/core';

/** What differs between processor architectures. Names are Debian's. */
export interface Architecture {
  /** Debian's name, as in package files. */
  debian: string;
  /** Meta package whose dependency is the newest kernel for virtual machines. */
  kernelPackage: string;
  /** The dynamic loader's file name in the toolbox. */
  loader: string;
  /** Debian package and program of the VMM that boots guests of this architecture. */
  qemuPackage: string;
  qemuProgram: string;
}

const architectures = {
  x64: {
    debian: 'amd64',
    kernelPackage: 'linux-image-cloud-amd64',
    loader: 'ld-linux-x86-64.so.2',
    qemuPackage: 'qemu-system-x86',
    qemuProgram: 'qemu-system-x86_64',
  },
  arm64: {
    debian: 'arm64',
    kernelPackage: 'linux-image-cloud-arm64',
    loader: 'ld-linux-aarch64.so.1',
    qemuPackage: 'qemu-system-arm',
    qemuProgram: 'qemu-system-aarch64',
  },
} as const satisfies Record<string, Architecture>;

/** The row for Node's architecture name, by default this machine's: guests run on the host's own architecture. */
export function architectureFor(nodeName: string = process.arch): Architecture {
  if (nodeName === 'x64' || nodeName === 'arm64') return architectures[nodeName];
  throw new AppError('not_implemented', `cannot build guest images for the architecture ${nodeName}: use x64 or arm64`);
}

/** Bumped when a builder changes its output in a way that its other inputs do not show. */
export const recipeVersions = { kernel: 2, initramfs: 3, toolbox: 2, minimal: 2 } as const;

/** Kernel modules that /init loads, in order; what they depend on comes along. A built-in one is left out. */
export const bootModules = ['virtio_mmio', 'virtio_blk', 'squashfs', 'virtio_net'] as const;

/**
 * Modules that the initramfs carries too, loaded after the boot modules when the kernel has them. `tcp_diag` lets the guest agent end
 * connections whose peers a restore left behind; without it each try would also start a search for the module.
 */
export const optionalModules = ['overlay', 'virtio_rng', 'tcp_diag'] as const;

/**
 * Nodes that exist before their driver does: opening one makes the kernel load it. Numbers: the kernel's
 * Documentation/admin-guide/devices.txt; modes as udev's rules give them.
 */
export const deviceNodes = [
  { path: 'fuse', major: 10, minor: 229, mode: 0o666 },
  { path: 'net/tun', major: 10, minor: 200, mode: 0o666 },
  { path: 'loop-control', major: 10, minor: 237, mode: 0o660 },
  { path: 'mapper/control', major: 10, minor: 236, mode: 0o600 },
  { path: 'btrfs-control', major: 10, minor: 234, mode: 0o660 },
] as const;

/** The `minimal` root file system. */
export const minimalRootFs = {
  suite: 'bookworm',
  sizeMib: 5_120,
  hostname: 'sandbox',
  user: { name: 'user', uid: 1_000, home: '/home/user', shell: '/bin/bash' },
  // What a developer reaches for first. Compilers and Node would double the size: templates add them.
  packages: [
    'bash',
    'bzip2',
    'ca-certificates',
    'curl',
    'file',
    'git',
    'iproute2',
    'iputils-ping',
    'jq',
    'kmod',
    'less',
    // Resolves the sandbox's own name, whatever it is set to: sudo looks it up.
    'libnss-myhostname',
    'lsof',
    'make',
    'nano',
    'netcat-openbsd',
    'openssh-client',
    'patch',
    'procps',
    'python-is-python3',
    'python3',
    'python3-pip',
    'python3-venv',
    'rsync',
    'sudo',
    'tmux',
    'unzip',
    'vim-tiny',
    'wget',
    'xz-utils',
    'zip',
    'zstd',
  ],
} as const;
