import type { HostId } from '@aviary/core';
import type { HostClient, HostClients } from './host-clients.ts';

export interface AgentDeps {
  hostClients: HostClients;
}

/** Calls a host's agent; its errors come as AppError. */
export async function callAgent<T>(
  { hostClients }: AgentDeps,
  hostId: HostId,
  call: (client: HostClient) => Promise<T>,
): Promise<T> {
  return await call(await hostClients.get(hostId));
}
