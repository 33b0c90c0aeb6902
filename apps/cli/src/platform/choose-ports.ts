import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { waitFor, writeDurableFile } from '@aviary/service-kit';
import type { CliConfig } from '../config.ts';
import { findPortHolder, isPortFree } from './ports.ts';

/** Where control plane and host agent of one platform listen. */
export interface PlatformPorts {
  controlPlane: number;
  agent: number;
}

/** Services of an `up` that was killed notice within a moment; so long are their ports waited for. */
const afterCrashTimeoutMs = 12_000;
/** Ports that are tried in place of one in use lie this far apart, so that the two of one platform stay neighbours. */
const portStep = 10;
const maxTries = 100;

const services = {
  controlPlane: { name: 'the API', variable: 'AVIARY_PORT' },
  agent: { name: 'the host agent', variable: 'AVIARY_AGENT_PORT' },
} as const satisfies Record<keyof PlatformPorts, object>;

/**
 * The ports of this platform: as set, which must be free; else those that it had before, or the usual ones; else others that are free,
 * told by `onNote`. What was chosen is kept in the data directory, so that clients find it there again. Throws `already_exists` naming
 * who has a port that was set.
 */
export async function choosePorts({
  config,
  isAfterCrash,
  signal,
  onNote,
}: {
  config: CliConfig;
  isAfterCrash: boolean;
  signal: AbortSignal;
  onNote: (text: string) => void;
}): Promise<PlatformPorts> {
  const file = path.join(config.dataDir, 'ports.json');
  const kept = await readKept(file);
  const ports: PlatformPorts = { controlPlane: config.controlPlanePort, agent: config.agentPort };
  const hosts: Record<keyof PlatformPorts, string> = { controlPlane: config.controlPlaneHost, agent: config.agentHost };
  for (const service of ['controlPlane', 'agent'] as const) {
    const isSet = config.env[services[service].variable] !== undefined;
    const wanted = isSet ? ports[service] : (kept?.[service] ?? ports[service]);
    const taken = service === 'agent' ? [ports.controlPlane] : [];
    const timeoutMs = isAfterCrash ? afterCrashTimeoutMs : 0;
    if (await becomesFree({ host: hosts[service], port: wanted, timeoutMs, signal })) {
      ports[service] = wanted;
      continue;
    }
    const holder = await findPortHolder(wanted);
    const who = `port ${wanted} on ${hosts[service]} is in use${holder ? ` by ${holder}` : ''}`;
    const { name, variable } = services[service];
    const other = isSet ? undefined : await findFree(hosts[service], { from: wanted, taken });
    if (other === undefined) {
      throw new AppError('already_exists', `${who}; stop that, or choose another with ${variable}=PORT`, {
        details: { port: wanted },
      });
    }
    onNote(`${who}: ${name} takes port ${other}; ${variable} sets another`);
    ports[service] = other;
  }
  if (ports.controlPlane !== kept?.controlPlane || ports.agent !== kept.agent)
    await writeDurableFile(file, `${JSON.stringify(ports)}\n`, 0o644);
  return ports;
}

async function becomesFree({
  host,
  port,
  timeoutMs,
  signal,
}: {
  host: string;
  port: number;
  timeoutMs: number;
  signal: AbortSignal;
}): Promise<boolean> {
  const wait = { what: `port ${port} becoming free`, timeoutMs, intervalMs: 100, signal };
  try {
    return await waitFor(wait, () => isPortFree({ host, port }));
  } catch (error) {
    if (error instanceof AppError && error.code === 'deadline_exceeded') return false;
    throw error;
  }
}

async function findFree(
  host: string,
  { from, taken }: { from: number; taken: readonly number[] },
): Promise<number | undefined> {
  for (let port = from + portStep, tries = 0; port <= 65_535 && tries < maxTries; port += portStep, tries++) {
    if (!taken.includes(port) && (await isPortFree({ host, port }))) return port;
  }
  return undefined;
}

async function readKept(file: string): Promise<PlatformPorts | undefined> {
  try {
    const kept = JSON.parse(await readFile(file, 'utf8')) as Partial<PlatformPorts>;
    const isPort = (value: unknown) => Number.isInteger(value) && Number(value) > 0 && Number(value) <= 65_535;
    return isPort(kept.controlPlane) && isPort(kept.agent) ? (kept as PlatformPorts) : undefined;
  } catch {
    return undefined; // absent or damaged: they are chosen anew
  }
}
