import { hostPackages } from '@aviary/images';

/** Bumped when the lab's root file system comes out differently and its other inputs do not show it. */
export const rootRecipeVersion = 1;

/** The machine inside: Debian with what a host of Aviary has, and what its tests need besides. */
export const labRoot = {
  suite: 'bookworm',
  /** Sparse; the lab's changes to it go away with the lab. */
  sizeMib: 6_144,
  /** Who tries what an ordinary user does: in the group of /dev/kvm, with sudo. */
  user: 'dev',
  packages: [
    ...new Set([
      ...hostPackages().map(({ name }) => name),
      ...['ca-certificates', 'dmsetup', 'iptables', 'kmod', 'procps', 'socat', 'sudo'],
    ]),
  ],
} as const;

/** The file system that tests work on, with the guest images in it. Sparse. */
export const dataSizeMib = 16_384;

/** Modules that the lab's /init loads to find its drives. */
export const bootModules = ['virtio_pci', 'virtio_blk', 'virtio_console', 'squashfs', 'overlay'] as const;

/** The machine that the lab is. AMD's virtualization is what QEMU's software CPU can emulate with nested paging. */
export const labMachine = {
  memoryMib: 4_096,
  vcpus: 2,
  cpu: 'EPYC',
  translationCacheMib: 512,
} as const;

/** What tests do not import and a lab need not carry. */
export const unneededPackages = [
  '@biomejs',
  '@bufbuild/buf*',
  '@oxc-parser',
  '@oxc-resolver',
  '@typescript',
  '.cache',
  '.vite*',
  'dependency-cruiser',
  'knip',
  'oxc-parser',
  'oxc-resolver',
  'typescript',
  'typescript-7',
] as const;
