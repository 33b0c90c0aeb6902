import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { loadForeignFunctions } from '@aviary/linux';
import { AccessTokens } from './access/access-tokens.ts';
import type { GuestAgentConfig } from './config.ts';
import { FileAccess } from './files/file-access.ts';
import type { DirectoryWatcher } from './files/watch-directory.ts';
import { createHttpServer, type RpcHandler } from './http-server.ts';
import { type GuestMachine, linuxGuest } from './lifecycle/guest-machine.ts';
import { MetricsReader } from './metrics/read-metrics.ts';
import { ProcessRegistry, type ProcessRegistryOptions } from './processes/process-registry.ts';
import { UserCgroup } from './processes/user-cgroup.ts';
import { initialSettings } from './sandbox-settings.ts';
import { UserDatabase } from './users/user-database.ts';

export interface GuestAgentOverrides {
  machine?: GuestMachine;
  users?: UserDatabase;
  retention?: ProcessRegistryOptions['retention'];
}

export interface GuestAgent extends AsyncDisposable {
  readonly port: number;
  readonly registry: ProcessRegistry;
}

/** Starts the agent and resolves when it listens. Disposal ends every user process. */
export async function startGuestAgent(
  config: GuestAgentConfig,
  overrides: GuestAgentOverrides = {},
): Promise<GuestAgent> {
  const { machine = linuxGuest, users = new UserDatabase(), retention } = overrides;
  const tokens = new AccessTokens(config.hostTokenSha256);
  const settings = initialSettings();
  const groups = config.cgroupRoot === undefined ? undefined : new UserCgroup(config.cgroupRoot);
  const registry = new ProcessRegistry({ launcher: config.launcher, groups, ...(retention ? { retention } : {}) });
  const files = new FileAccess();
  const watchers = new Map<string, DirectoryWatcher>();
  let rpcHandler: Promise<RpcHandler> | undefined;
  // Loading the services takes longer than all else here: the server listens first.
  const rpc = () => {
    rpcHandler ??= import('./rpc-handler.ts').then(({ createRpcHandler }) =>
      createRpcHandler({ registry, users, files, settings, watchers }),
    );
    return rpcHandler;
  };
  const lifecycle = { machine, tokens, settings, groups };
  const server = createHttpServer({ tokens, users, files, settings, lifecycle, metrics: new MetricsReader(), rpc });
  server.listen(config.port, config.host);
  await once(server, 'listening');
  await Promise.all([rpc(), loadForeignFunctions()]);
  return {
    port: (server.address() as AddressInfo).port,
    registry,
    async [Symbol.asyncDispose]() {
      registry[Symbol.dispose]();
      for (const watcher of watchers.values()) watcher[Symbol.dispose]();
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
      await files[Symbol.asyncDispose]();
    },
  };
}
