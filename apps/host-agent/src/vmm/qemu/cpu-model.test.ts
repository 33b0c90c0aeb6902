import { describe, expect, it } from 'vitest';
import { cpuArgument, cpuModelName } from './cpu-model.ts';

const cpuInfo = ({ model = '1', flags = 'fpu sse svm', mhz = '2400.000' } = {}) =>
  [0, 1]
    .map((processor) =>
      [
        ...[`processor\t: ${processor}`, 'vendor_id\t: AuthenticAMD', 'cpu family\t: 23', `model\t\t: ${model}`],
        ...['model name\t: AMD EPYC', 'stepping\t: 2', `cpu MHz\t\t: ${mhz}`, `flags\t\t: ${flags}`, 'bogomips: 4800'],
      ].join('\n'),
    )
    .join('\n\n');
const name = (text: string) => cpuModelName('kvm', { cpuInfo: text });

describe('the processor that a guest is given', () => {
  it('is the host’s own with KVM, and everything that QEMU knows without', () => {
    expect([cpuArgument('kvm'), cpuArgument('tcg'), cpuArgument('tcg', 'EPYC')]).toEqual(['host', 'max', 'max']);
  });

  it('may be a fixed one, all or nothing, so that saved states move between unlike hosts', () => {
    expect(cpuArgument('kvm', 'EPYC')).toBe('EPYC,enforce');
    const unlike = [cpuInfo(), cpuInfo({ model: '49' })];
    expect(unlike.map((text) => cpuModelName('kvm', { fixed: 'EPYC', cpuInfo: text }))).toEqual(['EPYC', 'EPYC']);
  });

  it('is named by what a guest sees of it, and by nothing that changes from minute to minute', () => {
    expect(name(cpuInfo())).toMatch(/^host:AuthenticAMD-23-1-2-[0-9a-f]{12}$/);
    expect(name(cpuInfo({ mhz: '1200.000', flags: 'svm fpu sse' }))).toBe(name(cpuInfo()));
    expect(name(cpuInfo({ flags: 'fpu sse svm avx512f' }))).not.toBe(name(cpuInfo()));
    expect(name(cpuInfo({ model: '49' }))).not.toBe(name(cpuInfo()));
  });

  it('has a name on arm64', () => {
    const text =
      'processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\n';
    expect(name(text)).toMatch(/^host:0x41-0xd0c-1-[0-9a-f]{12}$/);
  });
});
