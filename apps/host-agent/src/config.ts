import { EnvReader } from '@aviary/service-kit';

export interface HostAgentConfig {
  dataDir: string;
  controlPlaneUrl: string;
  listen: { host: string; port: number };
  /** Where the one-time registration token is read from while the host has no credentials. */
  hostTokenFile: string;
  /** Starts the names of this agent's namespaces and links. Two agents on one machine need two. */
  networkPrefix: string;
  /** The cgroup above all microVMs' cgroups. Two agents on one machine need two. */
  cgroupParent: string;
  /** Network slots built ahead of need. */
  readySlots: number;
  maxSlots: number;
  /** Lowest slot index: agents on one machine need ranges that do not overlap, because a slot's addresses follow from its index. */
  firstSlot: number;
  /** Restored and stopped microVMs kept ready per template and size. */
  warmPoolSize: number;
  /** Time between looks for idle sandboxes. */
  reaperIntervalMs: number;
  logLevel: string;
  fault: string | undefined;
  exitWithParent: boolean;
}

/** Reads the agent's settings; README.md lists them. Throws `invalid_request` naming the variable at fault. */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): HostAgentConfig {
  const reader = new EnvReader(env);
  const dataDir = reader.string('AVIARY_DATA_DIR', '/var/lib/aviary');
  const networkPrefix = reader.string('AVIARY_NETWORK_PREFIX', 'avy');
  return {
    dataDir,
    controlPlaneUrl: reader.string('AVIARY_CONTROL_PLANE_URL', 'http://127.0.0.1:7070'),
    listen: {
      host: reader.string('AVIARY_AGENT_HOST', '127.0.0.1'),
      port: reader.integer('AVIARY_AGENT_PORT', { fallback: 7071, min: 0, max: 65_535 }),
    },
    hostTokenFile: reader.string('AVIARY_HOST_TOKEN_FILE', `${dataDir}/bootstrap/host-token`),
    networkPrefix,
    cgroupParent: networkPrefix === 'avy' ? 'aviary' : `aviary-${networkPrefix}`,
    readySlots: reader.integer('AVIARY_READY_SLOTS', { fallback: 4, min: 0, max: 256 }),
    maxSlots: reader.integer('AVIARY_MAX_SLOTS', { fallback: 1024, min: 1, max: 32_767 }),
    firstSlot: reader.integer('AVIARY_FIRST_SLOT', { fallback: 1, min: 1, max: 32_767 }),
    warmPoolSize: reader.integer('AVIARY_WARM_POOL', { fallback: 1, min: 0, max: 64 }),
    reaperIntervalMs: reader.integer('AVIARY_REAPER_INTERVAL_MS', { fallback: 2_000, min: 50, max: 600_000 }),
    logLevel: reader.string('AVIARY_LOG_LEVEL', 'info'),
    fault: reader.optional('AVIARY_FAULT'),
    exitWithParent: reader.boolean('AVIARY_EXIT_WITH_PARENT'),
  };
}
