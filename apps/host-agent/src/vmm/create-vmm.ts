import path from 'node:path';
import type { ImageSet } from '@aviary/images';
import type { FaultPoints } from '@aviary/service-kit';
import type { HostLayout } from '../layout.ts';
import { QemuVmm } from './qemu/qemu-vmm.ts';
import type { Vmm } from './vmm.ts';
import { vmmGid } from './vmm-group.ts';

/** This host's VMM driver. */
export function createVmm({
  layout,
  images,
  cgroupParent,
  cpuModel,
  probeTimeoutMs,
  faults,
}: {
  layout: HostLayout;
  images: ImageSet;
  cgroupParent: string;
  cpuModel: string | undefined;
  probeTimeoutMs: number;
  faults: FaultPoints;
}): Vmm {
  return new QemuVmm({
    cgroupParent,
    ...(cpuModel === undefined ? {} : { cpuModel }),
    dataDirectory: layout.sandboxesDirectory,
    workDirectory: layout.vmmRootDirectory,
    faults,
    probe: {
      kernelPath: images.kernel.path,
      initramfsPath: images.initramfs.path,
      cachePath: path.join(layout.hostDirectory, 'accelerator.json'),
      uid: vmmGid,
      timeoutMs: probeTimeoutMs,
    },
  });
}
