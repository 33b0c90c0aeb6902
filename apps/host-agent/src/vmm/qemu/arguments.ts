import path from 'node:path';
import type { MachineSpec } from '../vmm.ts';
import { type Accelerator, cpuArgument } from './cpu-model.ts';

export type { Accelerator };

export type Architecture = 'x64' | 'arm64';

/** What differs by the host's architecture. */
export const architectures = {
  x64: { program: 'qemu-system-x86_64', machineType: 'microvm', machineOptions: 'rtc=on', console: 'ttyS0' },
  arm64: { program: 'qemu-system-aarch64', machineType: 'virt', machineOptions: 'gic-version=max', console: 'ttyAMA0' },
} as const satisfies Record<
  Architecture,
  { program: string; machineType: string; machineOptions: string; console: string }
>;

/** Memory for translated code, per microVM, under software emulation. */
export const translationCacheMib = 64;
export const consoleBytes = 64 * 1024;
/** Blocks that the guest discards or zeroes are given back to the host. */
export const diskOptions = { discard: 'unmap', 'detect-zeroes': 'unmap' } as const;

/** What a machine is made of. A probe guest has neither drives nor network. */
export type Machine = Pick<
  MachineSpec,
  'vcpus' | 'memoryMib' | 'kernelPath' | 'initramfsPath' | 'kernelParameters' | 'memoryPath'
> &
  Partial<Pick<MachineSpec, 'disk' | 'toolboxPath' | 'network'>>;

export interface ArgumentOptions {
  architecture: Architecture;
  accelerator: Accelerator;
  /** QEMU's name of a processor model for guests under KVM. Undefined: the host's own. */
  cpuModel: string | undefined;
  /** `shared` when booting, `private` when restoring. */
  mapping: 'shared' | 'private';
  isIncoming: boolean;
  socketPath: string;
  /** Rate of the time-stamp counter that guests see under software emulation; undefined where there is none. */
  tscKhz: number | undefined;
}

/**
 * QEMU's command line. vCPUs are always stopped at first, so that nothing of the guest runs before the VMM is known to be
 * confined. The console goes to a ring in QEMU's own memory: a guest that prints for ever fills no disk.
 */
export function qemuArguments(machine: Machine, options: ArgumentOptions): string[] {
  const { architecture, accelerator, cpuModel, mapping, isIncoming, socketPath } = options;
  const { machineType, machineOptions } = architectures[architecture];
  const sizeMib = machine.memoryMib;
  const acceleration = accelerator === 'kvm' ? 'kvm' : `tcg,thread=multi,tb-size=${translationCacheMib}`;
  const share = mapping === 'shared' ? 'on' : 'off';
  return [
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-nodefaults', '-no-user-config', '-nographic', '-S'],
    // A guest that restarts has ended, and a VMM whose guest has ended waits: its console says why, and the host agent ends it.
    ...['-action', 'reboot=shutdown,shutdown=pause'],
    // Without the description the stream of `saveDeviceState` is complete as it is; see save-state.ts.
    ...['-machine', `${machineType},${machineOptions},memory-backend=ram,suppress-vmdesc=on`],
    ...['-global', 'migration.send-configuration=off'],
    ...[
      '-accel',
      acceleration,
      '-cpu',
      cpuArgument(accelerator, cpuModel),
      '-smp',
      String(machine.vcpus),
      '-m',
      `${sizeMib}M`,
    ],
    ...[
      '-object',
      `memory-backend-file,id=ram,size=${sizeMib}M,mem-path=${escapeOption(machine.memoryPath)},share=${share}`,
    ],
    ...['-kernel', machine.kernelPath, '-initrd', machine.initramfsPath],
    // A kernel that panics restarts at once.
    ...['-append', kernelCommandLine(machine, options)],
    ...['-chardev', `ringbuf,id=console,size=${consoleBytes}`, '-serial', 'chardev:console'],
    ...driveArguments(machine),
    ...networkArguments(machine),
    ...['-qmp', `unix:${escapeOption(socketPath)},server=on,wait=off`],
    ...(isIncoming ? ['-incoming', 'defer'] : []),
  ];
}

function kernelCommandLine(
  { kernelParameters }: Machine,
  { architecture, accelerator, tscKhz }: ArgumentOptions,
): string {
  // An emulated timer on a busy host is too uneven for the guest to measure its time-stamp counter against; a kernel that
  // fails at it waits for ever. QEMU passes the host's counter through, so the guest is told the host's rate.
  const tsc = accelerator === 'tcg' && tscKhz !== undefined ? [`tsc_early_khz=${tscKhz}`] : [];
  const { console } = architectures[architecture];
  return [`console=${console}`, 'reboot=t', 'panic=-1', 'quiet', ...tsc, ...kernelParameters].join(' ');
}

/** The root disk comes first, the toolbox second. */
function driveArguments({ disk, toolboxPath }: Machine): string[] {
  const drives: string[] = [];
  if (disk) {
    const file = `file.driver=file,file.filename=${escapeOption(disk.path)}`;
    const options = Object.entries(diskOptions).map(([name, value]) => `,${name}=${value}`);
    drives.push(
      ...['-blockdev', `driver=${disk.format},node-name=root,${file}${options.join('')}`],
      ...['-device', 'virtio-blk-device,drive=root'],
    );
  }
  if (toolboxPath !== undefined) {
    const file = `file.driver=file,file.filename=${escapeOption(toolboxPath)}`;
    drives.push(
      ...['-blockdev', `driver=raw,node-name=toolbox,read-only=on,${file}`],
      ...['-device', 'virtio-blk-device,drive=toolbox'],
    );
  }
  return drives;
}

function networkArguments({ network }: Machine): string[] {
  if (!network) return [];
  return [
    ...['-netdev', `tap,id=net,ifname=${escapeOption(network.tapName)},script=no,downscript=no`],
    ...['-device', `virtio-net-device,netdev=net,mac=${network.guestMac}`],
  ];
}

/** True for the command line of a QEMU that {@link qemuArguments} was made for, if its control socket lies below `directory`. */
export function isQemuBelow(directory: string, [program = '', ...args]: readonly string[]): boolean {
  const isQemu = Object.values(architectures).some((each) => each.program === path.basename(program));
  const socket = args[args.indexOf('-qmp') + 1] ?? '';
  return isQemu && socket.startsWith(`unix:${escapeOption(directory)}/`);
}

/** QEMU separates options by commas; a comma in a value is doubled. */
function escapeOption(value: string): string {
  return value.replaceAll(',', ',,');
}
