import path from 'node:path';
import { EnvReader } from '@aviary/service-kit';

/** What the command line program takes from its environment. */
export interface CliConfig {
  apiUrl: string;
  /** The profile to use, by AVIARY_PROFILE; undefined is the current one. */
  profile: string | undefined;
  /** False when nothing was set: a platform of this machine may then be at a place that it chose. */
  isApiUrlSet: boolean;
  /** From AVIARY_API_KEY; else the key that `aviary up` left in the data directory is used. */
  apiKey: string | undefined;
  dataDir: string;
  /** Where people reach the platform that `aviary up` runs; undefined: where it listens. */
  publicUrl: string | undefined;
  /** Where the host agents of this machine find each other. */
  runDirectory: string;
  /** The guest images in the data directory were made elsewhere and are used as they are. */
  areImagesPrebuilt: boolean;
  /** Where `aviary up` lets the control plane and the host agent listen. */
  controlPlaneHost: string;
  controlPlanePort: number;
  agentHost: string;
  agentPort: number;
  isColorWanted: boolean;
  /** Everything, for the programs that this one starts. */
  env: Readonly<Record<string, string | undefined>>;
}

/** Files through which the control plane hands secrets to programs on the same machine. */
export function bootstrapFiles(dataDir: string): { apiKey: string; hostToken: string; claimCode: string } {
  const directory = path.join(dataDir, 'bootstrap');
  return {
    apiKey: path.join(directory, 'api-key'),
    hostToken: path.join(directory, 'host-token'),
    claimCode: path.join(directory, 'claim-code'),
  };
}

/** Reads the settings. Throws `invalid_request` naming the variable at fault. */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): CliConfig {
  const reader = new EnvReader(env);
  const controlPlaneHost = reader.string('AVIARY_HOST', '127.0.0.1');
  const controlPlanePort = reader.integer('AVIARY_PORT', { fallback: 7070, min: 1, max: 65_535 });
  return {
    apiUrl: reader.string('AVIARY_API_URL', localUrl(controlPlaneHost, controlPlanePort)),
    isApiUrlSet: ['AVIARY_API_URL', 'AVIARY_HOST', 'AVIARY_PORT'].some((name) => reader.optional(name) !== undefined),
    profile: reader.optional('AVIARY_PROFILE'),
    apiKey: reader.optional('AVIARY_API_KEY'),
    areImagesPrebuilt: reader.boolean('AVIARY_PREBUILT_IMAGES'),
    dataDir: path.resolve(reader.string('AVIARY_DATA_DIR', '/var/lib/aviary')),
    publicUrl: reader.optional('AVIARY_PUBLIC_URL'),
    runDirectory: reader.string('AVIARY_RUN_DIR', '/run/aviary'),
    controlPlaneHost,
    controlPlanePort,
    agentHost: reader.string('AVIARY_AGENT_HOST', '127.0.0.1'),
    agentPort: reader.integer('AVIARY_AGENT_PORT', { fallback: 7071, min: 1, max: 65_535 }),
    isColorWanted: reader.optional('NO_COLOR') === undefined && reader.optional('TERM') !== 'dumb',
    env,
  };
}

/** How a program on this machine reaches a server that listens on `host`. */
export function localUrl(host: string, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}
