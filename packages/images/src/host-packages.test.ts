import { expect, test } from 'vitest';
import { hostPackages, type InstallerDeps, installHostPackages, missingHostPackages } from './host-packages.ts';

const everything = hostPackages();
const named = (name: string) => everything.filter((hostPackage) => hostPackage.name === name);

function machine(overrides: Partial<InstallerDeps> = {}) {
  const commands: string[][] = [];
  const deps: InstallerDeps = {
    run: async (file, args) => {
      commands.push([file, ...args]);
      return { stdout: '', stderr: '', exitCode: 0 };
    },
    isRoot: true,
    askForSudo: async () => false,
    hasProgram: async () => true,
    ...overrides,
  };
  return { deps, commands };
}

test('an empty machine lacks every package, by purpose when asked', async () => {
  expect(await missingHostPackages({}, async () => false)).toEqual(everything);
  const network = await missingHostPackages({ purposes: ['network'] }, async () => false);
  expect(network.map(({ name }) => name)).toEqual(['iproute2', 'nftables']);
});

test('a package is present when all its programs are, in any system directory', async () => {
  const missing = await missingHostPackages({}, async (file) => !file.endsWith('/resize2fs'));
  expect(missing.map(({ name }) => name)).toEqual(['e2fsprogs']);
  expect(await missingHostPackages({}, async (file) => !file.startsWith('/usr/bin/'))).toEqual([]);
});

test('debootstrap does in place of mmdebstrap', async () => {
  const missing = await missingHostPackages({ purposes: ['images'] }, async (file) => !file.endsWith('/mmdebstrap'));
  expect(missing).toEqual([]);
});

test('nothing missing runs nothing', async () => {
  const { deps, commands } = machine();
  await installHostPackages({ missing: [] }, deps);
  expect(commands).toEqual([]);
});

test('root installs with apt-get after reading the lists', async () => {
  const { deps, commands } = machine();
  await installHostPackages({ missing: named('nftables') }, deps);
  expect(commands.map((command) => command.filter((word) => !word.startsWith('-')).join(' '))).toEqual([
    'env DEBIAN_FRONTEND=noninteractive apt-get DPkg::Lock::Timeout=120 update',
    'env DEBIAN_FRONTEND=noninteractive apt-get DPkg::Lock::Timeout=120 install nftables',
  ]);
});

test('an unreachable package source is not the end when the packages are found', async () => {
  const { deps, commands } = machine();
  const run: InstallerDeps['run'] = async (file, args) => {
    if (args.includes('update')) throw new Error('one source is unreachable');
    return await deps.run(file, args);
  };
  await installHostPackages({ missing: named('tini') }, { ...deps, run });
  expect(commands).toHaveLength(1);
});

test('others go through sudo, asked at the terminal when it wants a password', async () => {
  const { deps, commands } = machine({ isRoot: false, askForSudo: async () => true });
  const run: InstallerDeps['run'] = async (file, args, options) => {
    const result = await deps.run(file, args, options);
    return args.includes('true') ? { ...result, exitCode: 1 } : result;
  };
  await installHostPackages({ missing: named('tini') }, { ...deps, run });
  expect(commands.at(-1)?.slice(0, 3)).toEqual(['sudo', '-n', 'env']);
});

test('without root and without sudo the error is the command to run', async () => {
  const { deps } = machine({ isRoot: false, hasProgram: async (program) => program !== 'sudo' });
  await expect(installHostPackages({ missing: [...named('tini'), ...named('nftables')] }, deps)).rejects.toMatchObject({
    code: 'forbidden',
    message: expect.stringContaining('apt-get install --no-install-recommends tini nftables'),
    details: { packages: ['tini', 'nftables'] },
  });
});
