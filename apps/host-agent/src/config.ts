import { EnvReader } from '@aviary/service-kit';
import type { WantedClaim } from './claims/choose-claim.ts';

export interface HostAgentConfig {
  dataDir: string;
  controlPlaneUrl: string;
  listen: { host: string; port: number };
  /** Where the one-time registration token is read from while the host has no credentials. */
  hostTokenFile: string;
  /** What the agents of one machine share out among them; what is not set is chosen, and kept in the data directory. */
  claim: WantedClaim;
  /** Where the agents of this machine find each other. */
  runDirectory: string;
  /** How long to wait for another agent that has the data directory and may be about to end. */
  lockTimeoutMs: number;
  /** Network slots built ahead of need. */
  readySlots: number;
  /** Restored and stopped microVMs kept ready per template and size. */
  warmPoolSize: number;
  /** Time between looks for idle sandboxes. */
  reaperIntervalMs: number;
  /** QEMU's name of a processor model for guests under KVM; undefined for the host's own. Hosts between which saved states move share one. */
  cpuModel: string | undefined;
  /** Longest life of the guest that shows whether KVM works. */
  kvmProbeTimeoutMs: number;
  logLevel: string;
  fault: string | undefined;
  exitWithParent: boolean;
}

/** Reads the agent's settings; README.md lists them. Throws `invalid_request` naming the variable at fault. */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): HostAgentConfig {
  const reader = new EnvReader(env);
  const dataDir = reader.string('AVIARY_DATA_DIR', '/var/lib/aviary');
  return {
    dataDir,
    controlPlaneUrl: reader.string('AVIARY_CONTROL_PLANE_URL', 'http://127.0.0.1:7070'),
    listen: {
      host: reader.string('AVIARY_AGENT_HOST', '127.0.0.1'),
      port: reader.integer('AVIARY_AGENT_PORT', { fallback: 7071, min: 0, max: 65_535 }),
    },
    hostTokenFile: reader.string('AVIARY_HOST_TOKEN_FILE', `${dataDir}/bootstrap/host-token`),
    claim: {
      prefix: reader.optional('AVIARY_NETWORK_PREFIX'),
      firstSlot: reader.optionalInteger('AVIARY_FIRST_SLOT', { min: 1, max: 32_767 }),
      maxSlots: reader.optionalInteger('AVIARY_MAX_SLOTS', { min: 1, max: 32_767 }),
    },
    runDirectory: reader.string('AVIARY_RUN_DIR', '/run/aviary'),
    lockTimeoutMs: reader.integer('AVIARY_LOCK_TIMEOUT_MS', { fallback: 10_000, min: 0, max: 600_000 }),
    readySlots: reader.integer('AVIARY_READY_SLOTS', { fallback: 4, min: 0, max: 256 }),
    warmPoolSize: reader.integer('AVIARY_WARM_POOL', { fallback: 1, min: 0, max: 64 }),
    reaperIntervalMs: reader.integer('AVIARY_REAPER_INTERVAL_MS', { fallback: 2_000, min: 50, max: 600_000 }),
    cpuModel: reader.optional('AVIARY_CPU_MODEL'),
    kvmProbeTimeoutMs: reader.integer('AVIARY_KVM_PROBE_TIMEOUT_MS', { fallback: 60_000, min: 1_000, max: 3_600_000 }),
    logLevel: reader.string('AVIARY_LOG_LEVEL', 'info'),
    fault: reader.optional('AVIARY_FAULT'),
    exitWithParent: reader.boolean('AVIARY_EXIT_WITH_PARENT'),
  };
}
