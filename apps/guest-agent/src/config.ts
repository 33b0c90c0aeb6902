import { EnvReader } from '@aviary/service-kit/env-config';
import type { Launcher } from './processes/launch-command.ts';

export interface GuestAgentConfig {
  host: string;
  port: number;
  /** SHA-256 (hex) of the host's token for internal routes; `/init` may replace it. */
  hostTokenSha256: string;
  /** Root of the cgroup v2 hierarchy under which user processes get their group; undefined runs them without groups. */
  cgroupRoot: string | undefined;
  /** The shell that places a user's process before it becomes the user's program, and what gives it odd variables. */
  launcher: Launcher;
}

/** Reads the agent's settings from its environment and the kernel's command line. */
export function loadConfig(
  env: Readonly<Record<string, string | undefined>>,
  kernelCommandLine: string,
): GuestAgentConfig {
  const reader = new EnvReader(env);
  return {
    host: reader.string('AVIARY_AGENT_HOST', '0.0.0.0'),
    port: reader.integer('AVIARY_AGENT_PORT', { fallback: 49_983, min: 0, max: 65_535 }),
    hostTokenSha256: reader.string(
      'AVIARY_HOST_TOKEN_SHA256',
      kernelParameter(kernelCommandLine, 'aviary.host_token_sha256'),
    ),
    cgroupRoot: reader.optional('AVIARY_CGROUP_ROOT') ?? '/sys/fs/cgroup',
    launcher: { shell: ['/.aviary/bin/busybox', 'sh'], env: ['/.aviary/bin/busybox', 'env'] },
  };
}

/** The value of `name=value` on a kernel command line. */
function kernelParameter(commandLine: string, name: string): string | undefined {
  const word = commandLine.split(/\s+/).find((candidate) => candidate.startsWith(`${name}=`));
  return word?.slice(name.length + 1) || undefined;
}
