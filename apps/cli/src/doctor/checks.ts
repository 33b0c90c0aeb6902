import path from 'node:path';
import { type CliConfig, localUrl } from '../config.ts';
import type { HostAgentClaim, Machine } from './machine.ts';

export interface Finding {
  status: 'ok' | 'warn' | 'fail';
  detail: string;
  /** Everything that was said about it, where `detail` is one line of it; for `--json`. */
  more?: string;
  /** What to do about it; absent when nothing is to be done. */
  fix?: string;
}

/** One thing that must be right on a machine that runs Aviary. */
export interface Check {
  name: string;
  run(machine: Machine, config: CliConfig): Promise<Finding>;
}

const ok = (detail: string): Finding => ({ status: 'ok', detail });
const warn = (detail: string, fix: string): Finding => ({ status: 'warn', detail, fix });
const fail = (detail: string, fix: string): Finding => ({ status: 'fail', detail, fix });

const neededNodeMajor = 24;
/** Images and their build take 3 GiB; a sandbox's disk and saved states come on top. */
const diskMib = { needed: 4_096, comfortable: 10_240 };
/** The platform itself takes some 400 MiB, the smallest sandbox 256. */
const memoryMib = { needed: 1_024, comfortable: 2_048 };
const neededControllers = ['cpu', 'memory', 'pids'];

/** All checks, in the order in which a newcomer would fix things. */
export const checks: readonly Check[] = [
  {
    name: 'node',
    async run({ nodeVersion }) {
      const major = Number(nodeVersion.split('.')[0]);
      if (major >= neededNodeMajor) return ok(`Node ${nodeVersion}`);
      return fail(
        `Node ${nodeVersion} is too old: ${neededNodeMajor} is needed`,
        'npm install, then npx aviary doctor',
      );
    },
  },
  {
    name: 'root',
    async run(machine) {
      if (machine.uid === 0) return ok('running as root');
      const sudo = await machine.exitCodeOf('sudo', ['-n', 'true']);
      if (sudo === 0) return ok('not root; sudo works without a password');
      if (sudo === undefined)
        return fail("not root, and sudo is not installed: 'aviary up' cannot run", 'run it as root');
      return warn("not root; sudo wants a password, which 'aviary up' will ask for", 'sudo -v');
    },
  },
  {
    name: 'packages',
    async run(machine) {
      const missing = await machine.missingPackages();
      if (missing.length === 0) return ok('all installed');
      return fail(`missing: ${missing.join(' ')}`, `sudo apt-get install -y ${missing.join(' ')}`);
    },
  },
  { name: 'accelerator', run: checkAccelerator },
  { name: 'cgroups', run: checkCgroups },
  {
    name: 'nftables',
    async run(machine) {
      const exitCode = await machine.exitCodeOf('nft', ['list', 'tables']);
      if (exitCode === 0) return ok('nft works');
      if (exitCode === undefined) return fail('nft is not installed', 'sudo apt-get install -y nftables');
      if (machine.uid !== 0) return ok('nft is installed; whether it works is seen as root only');
      return fail('nft cannot reach the kernel', 'load the module: modprobe nf_tables');
    },
  },
  {
    name: 'ip-forwarding',
    async run(machine) {
      const text = await machine.readText('/proc/sys/net/ipv4/ip_forward');
      if (text?.trim() === '1') return ok('on');
      return warn('off: sandboxes reach the internet only once it is on', 'sudo sysctl -w net.ipv4.ip_forward=1');
    },
  },
  {
    name: 'data-dir',
    async run(machine, { dataDir }) {
      const code = await machine.writeError(dataDir);
      if (code === undefined) return ok(`${dataDir} can be written`);
      if (machine.uid !== 0 && code === 'EACCES') return ok(`${dataDir} belongs to root, as it should`);
      return fail(`${dataDir} cannot be written (${code})`, 'set AVIARY_DATA_DIR to a directory that can be');
    },
  },
  {
    name: 'disk-space',
    async run(machine, { dataDir }) {
      const free = await machine.freeMib(dataDir);
      const detail = `${free} MiB free for ${dataDir}`;
      const fix = 'free some, or set AVIARY_DATA_DIR to a larger disk';
      if (free < diskMib.needed) return fail(`${detail}; ${diskMib.needed} are needed`, fix);
      return free < diskMib.comfortable ? warn(`${detail}: room for few sandboxes`, fix) : ok(detail);
    },
  },
  {
    name: 'memory',
    async run({ totalMemoryMib }) {
      const detail = `${totalMemoryMib} MiB`;
      const fix = 'use a machine with more memory';
      if (totalMemoryMib < memoryMib.needed) return fail(`${detail}; ${memoryMib.needed} are needed`, fix);
      return totalMemoryMib < memoryMib.comfortable ? warn(`${detail}: room for few sandboxes`, fix) : ok(detail);
    },
  },
  {
    name: 'images',
    async run(machine, { dataDir }) {
      if (await machine.hasImages(dataDir)) return ok(`built, in ${path.join(dataDir, 'images')}`);
      return warn('not built yet', "'aviary up' builds them at its first start");
    },
  },
  { name: 'platforms', run: checkPlatforms },
  { name: 'api', run: checkApi },
];

/** Several platforms may share a machine; one that was left behind with its microVMs is worth knowing of. */
async function checkPlatforms(machine: Machine, { dataDir, runDirectory }: CliConfig): Promise<Finding> {
  const agents = await machine.hostAgents(runDirectory);
  if (agents === undefined) return ok('which others there are is seen as root only');
  const tell = ({ dataDir: place, prefix, firstSlot, maxSlots, pid, slots }: HostAgentClaim) =>
    `${place} (${pid === undefined ? 'not running' : `process ${pid}`}, prefix ${prefix}, slots ${firstSlot} to ${firstSlot + maxSlots - 1}, ${slots} in place)`;
  const own = agents.find((agent) => agent.dataDir === dataDir);
  const others = agents.filter((agent) => agent !== own);
  const left = others.filter(({ pid, slots }) => pid === undefined && slots > 0);
  const detail = [
    own ? tell(own) : `none on ${dataDir} yet`,
    ...others.map((agent) => `beside it ${tell(agent)}`),
  ].join('; ');
  if (left.length === 0) return ok(detail);
  return warn(
    `${detail}; nothing watches over those that do not run`,
    left.map((agent) => `AVIARY_DATA_DIR=${agent.dataDir} aviary down`).join('; '),
  );
}

async function checkAccelerator(machine: Machine, { dataDir }: CliConfig): Promise<Finding> {
  const tried = await readProbe(machine, dataDir);
  const slow = 'use a machine with KVM; in a cloud, one with nested virtualization';
  if (tried && tried.note === null) return ok('KVM, tried by the host agent with a guest');
  if (tried) return { ...warn(`software CPU, slow: ${tried.note}`, slow), ...(tried.detail && { more: tried.detail }) };
  const later = 'the host agent tries it with a guest at its first start';
  const code = await machine.openError('/dev/kvm');
  if (code === undefined) return ok(`/dev/kvm can be opened; ${later}`);
  if (code === 'ENOENT')
    return warn('no /dev/kvm: sandboxes will run on a software CPU, which works, and is slow', slow);
  if (machine.uid !== 0) return ok(`/dev/kvm is there, for root only; ${later}`);
  return warn(`/dev/kvm cannot be opened (${code}): sandboxes will run on a software CPU, slowly`, slow);
}

/** What the host agent found when it tried KVM: a null note means that it works. Undefined before its first start. */
async function readProbe(
  machine: Machine,
  dataDir: string,
): Promise<{ note: string | null; detail?: string } | undefined> {
  const text = await machine.readText(path.join(dataDir, 'host', 'accelerator.json'));
  if (text === undefined) return undefined;
  try {
    const { note, detail } = JSON.parse(text) as { note?: unknown; detail?: unknown };
    if (note === null) return { note };
    if (typeof note !== 'string') return undefined;
    return { note: note.replaceAll(/\s+/g, ' ').trim(), ...(typeof detail === 'string' ? { detail } : {}) };
  } catch {
    return undefined; // damaged: the host agent tries again and writes it anew
  }
}

/** Limits of microVMs work on one unified tree, on one tree per controller, and on a mixture. */
async function checkCgroups(machine: Machine): Promise<Finding> {
  const mounts = readCgroupMounts((await machine.readText('/proc/self/mountinfo')) ?? '');
  if (mounts.length === 0)
    return fail('no cgroup file system is mounted: no microVM can be started', 'mount -t cgroup2 none /sys/fs/cgroup');
  const offered = new Map<string, number>();
  for (const { version, mount, controllers } of mounts) {
    const names =
      version === 2 ? await machine.readText(path.join(mount, 'cgroup.controllers')) : controllers.join(' ');
    for (const name of (names ?? '').trim().split(/\s+/)) if (!offered.has(name)) offered.set(name, version);
  }
  const missing = neededControllers.filter((name) => !offered.has(name));
  if (missing.length > 0) {
    const fix = 'boot with systemd.unified_cgroup_hierarchy=1 and without cgroup_disable=';
    return warn(`without the controllers ${missing.join(', ')}: microVMs run without these limits`, fix);
  }
  return ok(neededControllers.map((name) => `${name} (version ${offered.get(name)})`).join(', '));
}

interface CgroupMount {
  version: 1 | 2;
  mount: string;
  /** Of version 1; a version 2 tree lists its own. */
  controllers: string[];
}

/** The cgroup mounts in /proc/self/mountinfo (proc_pid_mountinfo(5)). */
function readCgroupMounts(mountInfo: string): CgroupMount[] {
  const mounts: CgroupMount[] = [];
  for (const line of mountInfo.split('\n')) {
    const [left = '', right = ''] = line.split(' - ');
    const mount = left.split(' ')[4] ?? '';
    const [type, , options = ''] = right.split(' ');
    if (type === 'cgroup2') mounts.push({ version: 2, mount, controllers: [] });
    else if (type === 'cgroup') mounts.push({ version: 1, mount, controllers: options.split(',') });
  }
  return mounts;
}

async function checkApi(machine: Machine, config: CliConfig): Promise<Finding> {
  if (await machine.isApiHealthy(config.apiUrl)) return ok(`healthy at ${config.apiUrl}`);
  const places = [
    { host: config.controlPlaneHost, port: config.controlPlanePort, variable: 'AVIARY_PORT' },
    { host: config.agentHost, port: config.agentPort, variable: 'AVIARY_AGENT_PORT' },
  ];
  for (const { variable, ...address } of places) {
    if (await machine.isPortFree(address)) continue;
    const holder = await machine.portHolder(address.port);
    const who = holder ? ` by ${holder}` : '';
    const detail = `port ${address.port} is in use${who}, not by a healthy Aviary`;
    if (config.env[variable]) return fail(detail, `stop that, or set ${variable} to another`);
    return warn(detail, `stop that; 'aviary up' takes another otherwise`);
  }
  if (config.isApiUrlSet && config.apiUrl !== localUrl(config.controlPlaneHost, config.controlPlanePort)) {
    return fail(`no healthy API at ${config.apiUrl}`, 'check AVIARY_API_URL');
  }
  return ok(`not running; its ports ${places.map(({ port }) => port).join(' and ')} are free`);
}
