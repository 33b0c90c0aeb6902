import type { HostId } from '@aviary/core';
import { fromConnectError } from './from-connect-error.ts';
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
  try {
    return await call(await hostClients.get(hostId));
  } catch (error) {
    throw fromConnectError(error);
  }
}
