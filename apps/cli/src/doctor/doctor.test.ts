import { describe, expect, it } from 'vitest';
import { loadConfig } from '../config.ts';
import { checks } from './checks.ts';
import { examine } from './doctor-command.ts';
import type { Machine } from './machine.ts';

const config = loadConfig({ AVIARY_DATA_DIR: '/data' });
const texts: Record<string, string> = {
  '/proc/self/mountinfo': '30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n',
  '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
  '/proc/sys/net/ipv4/ip_forward': '1\n',
};

const abandoned = { dataDir: '/old', prefix: 'avold', firstSlot: 1, maxSlots: 1_024, pid: undefined, slots: 2 };

/** A machine on which everything is right, but for what `broken` says. */
function machine(broken: Partial<Machine> & { texts?: Record<string, string | undefined> } = {}): Machine {
  const known: Record<string, string | undefined> = { ...texts, ...broken.texts };
  return {
    nodeVersion: '24.1.0',
    uid: 0,
    totalMemoryMib: 16_000,
    readText: async (file) => known[file],
    exitCodeOf: async () => 0,
    openError: async () => undefined,
    freeMib: async () => 50_000,
    writeError: async () => undefined,
    missingPackages: async () => [],
    hasImages: async () => true,
    isPortFree: async () => true,
    portHolder: async () => undefined,
    isApiHealthy: async () => true,
    hostAgents: async () => [],
    ...broken,
  };
}

async function diagnose(name: string, broken: Parameters<typeof machine>[0], env?: Record<string, string>) {
  const found = await examine(machine(broken), env ? loadConfig({ AVIARY_DATA_DIR: '/data', ...env }) : config);
  return found.find((one) => one.name === name);
}

describe('doctor', () => {
  it('finds nothing wrong with a good machine', async () => {
    const found = await examine(machine(), config);
    expect(found.map(({ name }) => name)).toEqual(checks.map(({ name }) => name));
    expect(found.filter(({ status, fix }) => status !== 'ok' || fix !== undefined)).toEqual([]);
  });

  it.each<[string, Parameters<typeof machine>[0], 'warn' | 'fail', RegExp]>([
    ['node', { nodeVersion: '20.1.0' }, 'fail', /npm install/],
    ['root', { uid: 1000, exitCodeOf: async () => undefined }, 'fail', /run it as root/],
    ['root', { uid: 1000, exitCodeOf: async () => 1 }, 'warn', /sudo -v/],
    [
      'packages',
      { missingPackages: async () => ['qemu-utils', 'tini'] },
      'fail',
      /apt-get install -y qemu-utils tini$/,
    ],
    ['accelerator', { openError: async () => 'ENOENT' }, 'warn', /KVM/],
    ['accelerator', { texts: { '/data/host/accelerator.json': '{"key":"k","note":"no guest"}' } }, 'warn', /KVM/],
    ['cgroups', { texts: { '/sys/fs/cgroup/cgroup.controllers': 'cpu io' } }, 'warn', /cgroup_disable/],
    [
      'cgroups',
      { texts: { '/proc/self/mountinfo': '1 2 0:3 / / rw - ext4 /dev/vda rw\n' } },
      'fail',
      /mount -t cgroup2/,
    ],
    ['nftables', { exitCodeOf: async () => undefined }, 'fail', /nftables/],
    ['nftables', { exitCodeOf: async () => 1 }, 'fail', /nf_tables/],
    ['ip-forwarding', { texts: { '/proc/sys/net/ipv4/ip_forward': '0\n' } }, 'warn', /sysctl -w/],
    ['data-dir', { writeError: async () => 'EROFS' }, 'fail', /AVIARY_DATA_DIR/],
    ['disk-space', { freeMib: async () => 100 }, 'fail', /AVIARY_DATA_DIR/],
    ['disk-space', { freeMib: async () => 6_000 }, 'warn', /AVIARY_DATA_DIR/],
    ['memory', { totalMemoryMib: 512 }, 'fail', /more memory/],
    ['platforms', { hostAgents: async () => [abandoned] }, 'warn', /^AVIARY_DATA_DIR=\/old aviary down$/],
    ['images', { hasImages: async () => false }, 'warn', /aviary up/],
    ['api', { isApiHealthy: async () => false, isPortFree: async () => false }, 'warn', /takes another/],
  ])('%s: says what is wrong and how to fix it', async (name, broken, status, fix) => {
    const found = await diagnose(name, broken);
    expect(found?.status).toBe(status);
    expect(found?.fix).toMatch(fix);
  });

  it('tells what the host agent found about KVM, and only that', async () => {
    const file = '/data/host/accelerator.json';
    const texts = (text: string) => ({ texts: { [file]: text }, openError: async () => 'EACCES' });
    expect(await diagnose('accelerator', texts('{"key":"k","note":null}'))).toMatchObject({ status: 'ok' });
    expect((await diagnose('accelerator', texts('{"key":"k","note":"it\\nfailed"}')))?.detail).toContain('it failed');
    const failed = await diagnose(
      'accelerator',
      texts('{"key":"k","note":"no guest","detail":"no guest\\nfailed\\nfailed"}'),
    );
    expect(failed).toMatchObject({ detail: 'software CPU, slow: no guest', more: 'no guest\nfailed\nfailed' });
    expect((await diagnose('accelerator', texts('{')))?.detail).toContain('EACCES');
  });

  it.each([
    ['version 1', 'memory,cpu', 'pids', ''],
    ['both', 'memory', 'pids', 'cpu io'],
  ])('knows cgroups of %s', async (_what, first, second, unified) => {
    const mountInfo = [
      `1 2 0:3 / /cg/a rw shared:1 - cgroup cgroup rw,${first}`,
      `1 2 0:4 / /cg/b rw - cgroup cgroup rw,${second}`,
      '1 2 0:5 / /cg/unified rw - cgroup2 cgroup2 rw',
    ].join('\n');
    const found = await diagnose('cgroups', {
      texts: { '/proc/self/mountinfo': mountInfo, '/cg/unified/cgroup.controllers': unified },
    });
    expect(found).toMatchObject({ status: 'ok' });
    expect(found?.detail).toContain(unified ? 'cpu (version 2)' : 'cpu (version 1)');
  });

  it('names who is in the way', async () => {
    const found = await diagnose('api', {
      isApiHealthy: async () => false,
      isPortFree: async ({ port }) => port !== 7071,
      portHolder: async (port) => `nginx (process ${port})`,
    });
    expect(found?.detail).toBe('port 7071 is in use by nginx (process 7071), not by a healthy Aviary');
    const broken = { isApiHealthy: async () => false, isPortFree: async () => false };
    expect(await diagnose('api', broken, { AVIARY_PORT: '81' })).toMatchObject({
      status: 'fail',
      fix: 'stop that, or set AVIARY_PORT to another',
    });
  });

  it('is content with an API that is not running, unless it is elsewhere', async () => {
    const broken = { isApiHealthy: async () => false };
    expect(await diagnose('api', broken)).toMatchObject({ status: 'ok' });
    const elsewhere = { AVIARY_API_URL: 'https://aviary.example' };
    expect(await diagnose('api', broken, elsewhere)).toMatchObject({ status: 'fail', fix: 'check AVIARY_API_URL' });
  });

  it('goes on after a check that broke', async () => {
    const found = await examine(machine({ freeMib: () => Promise.reject(new Error('EIO')) }), config);
    expect(found).toHaveLength(checks.length);
    expect(found.find(({ name }) => name === 'disk-space')).toMatchObject({
      status: 'fail',
      detail: 'cannot check: EIO',
    });
  });
});
