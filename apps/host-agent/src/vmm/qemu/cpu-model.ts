import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/** QEMU's name for a processor: everything that the host's has, or everything that QEMU can emulate. */
const cpuModels = { kvm: 'host', tcg: 'max' } as const;

export type Accelerator = keyof typeof cpuModels;

/** What `-cpu` gets. `fixed` is one that the operator chose; without all of its features in the host's processor, QEMU refuses to start. */
export function cpuArgument(accelerator: Accelerator, fixed?: string): string {
  return accelerator === 'kvm' && fixed !== undefined ? `${fixed},enforce` : cpuModels[accelerator];
}

/**
 * The model as a saved state names it: a guest that was given the host's processor may use any part of it, and goes on only on one that
 * is the same in all that a guest sees. `cpuInfo` is the text of /proc/cpuinfo.
 */
export function cpuModelName(
  accelerator: Accelerator,
  { fixed, cpuInfo }: { fixed?: string; cpuInfo: string },
): string {
  if (accelerator === 'tcg') return cpuModels.tcg;
  return fixed ?? `${cpuModels.kvm}:${describeCpu(cpuInfo)}`;
}

export const readCpuInfo = () => readFile('/proc/cpuinfo', 'utf8');

/** Lines of /proc/cpuinfo that tell one kind of processor from another: x86-64's, then arm64's. */
const kindFields = ['vendor_id', 'cpu family', 'model', 'stepping'];
const armKindFields = ['CPU implementer', 'CPU architecture', 'CPU variant', 'CPU part', 'CPU revision'];

function describeCpu(cpuInfo: string): string {
  const first = cpuInfo.split(/\n\n/)[0] ?? '';
  const fields = new Map(
    first.split('\n').map((line) => {
      const [name = '', value = ''] = line.split(':');
      return [name.trim(), value.trim()] as const;
    }),
  );
  const known = (names: readonly string[]) => names.flatMap((name) => fields.get(name) ?? []);
  const kind = known(kindFields).length > 0 ? known(kindFields) : known(armKindFields);
  const features = (fields.get('flags') ?? fields.get('Features') ?? '').split(/\s+/).sort().join(' ');
  return [...kind, createHash('sha256').update(features).digest('hex').slice(0, 12)].join('-');
}
