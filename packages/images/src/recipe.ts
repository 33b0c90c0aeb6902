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
export const recipeVersions = { kernel: 1, initramfs: 2, toolbox: 1, minimal: 1 } as const;

/** Kernel modules that /init loads, in order; what they depend on comes along. A built-in one is left out. */
export const bootModules = ['virtio_mmio', 'virtio_blk', 'squashfs', 'virtio_net'] as const;

/**
 * Modules that the initramfs carries too, loaded after the boot modules when the kernel has them. `tcp_diag` lets the guest agent end
 * connections whose peers a restore left behind; without it each try would also start a search for the module.
 */
export const optionalModules = ['overlay', 'virtio_rng', 'tcp_diag'] as const;

/** The `minimal` root file system. */
export const minimalRootFs = {
  suite: 'bookworm',
  sizeMib: 5_120,
  hostname: 'sandbox',
  user: { name: 'user', uid: 1_000, home: '/home/user', shell: '/bin/bash' },
  packages: [
    'bash',
    'ca-certificates',
    'curl',
    'git',
    'iproute2',
    'less',
    // Resolves the sandbox's own name, whatever it is set to: sudo looks it up.
    'libnss-myhostname',
    'openssh-client',
    'procps',
    'python3',
    'sudo',
    'vim-tiny',
  ],
} as const;
