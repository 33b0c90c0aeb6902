import { chmod, mkdir, stat } from 'node:fs/promises';
import type { Http2Server, ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { AppError, newId } from '@aviary/core';
import { loadImages } from '@aviary/images';
import { createLogger, FaultPoints, type Logger, systemClock } from '@aviary/service-kit';
import { BackgroundWork } from './background-work.ts';
import { lockDataDirectory } from './claims/data-directory-lock.ts';
import { claimMachine } from './claims/machine-claims.ts';
import type { HostAgentConfig } from './config.ts';
import { ControlPlaneLink } from './control-plane/control-plane-link.ts';
import { EventOutbox } from './control-plane/event-outbox.ts';
import { createDiskStore } from './disk/create-disk-store.ts';
import { GarbageCollector } from './generations/garbage-collector.ts';
import { GenerationStore } from './generations/generation-store.ts';
import { ResumePreparer } from './generations/resume-preparer.ts';
import { GuestClient, type GuestTokens } from './guest/guest-client.ts';
import { HostLayout } from './layout.ts';
import { createSlotPool } from './network/slot-pool.ts';
import { SandboxJournal } from './registry/sandbox-journal.ts';
import { rootsOf } from './registry/sandbox-record.ts';
import { SandboxRegistry } from './registry/sandbox-registry.ts';
import { pauseAll } from './sandboxes/pause-all.ts';
import { recoverSandboxes } from './sandboxes/recover-sandboxes.ts';
import type { SandboxServices } from './sandboxes/sandbox-services.ts';
import { createServer } from './server.ts';
import { BootSnapshots } from './starts/boot-snapshots.ts';
import type { StartDeps } from './starts/start-deps.ts';
import { WarmPool } from './starts/warm-pool.ts';
import { TemplateStore } from './templates/template-store.ts';
import { createVmm } from './vmm/create-vmm.ts';
import { vmmGid } from './vmm/vmm-group.ts';

export interface RunningHostAgent extends AsyncDisposable {
  /** Where the control plane reaches the agent. */
  url: string;
  services: SandboxServices;
}

/**
 * Starts the host agent: recovers what runs on this machine, then serves commands. Disposing it stops the agent and no
 * sandbox. Throws `invalid_state` when the images are not built.
 */
export async function startHostAgent(
  config: HostAgentConfig,
  overrides: { logger?: Logger } = {},
): Promise<RunningHostAgent> {
  const logger = overrides.logger ?? createLogger({ name: 'host-agent', level: config.logLevel });
  await using cleanup = new AsyncDisposableStack();
  const layout = new HostLayout(config.dataDir);
  await mkdir(layout.hostDirectory, { recursive: true, mode: 0o711 });
  const { lockFile } = layout;
  cleanup.use(await lockDataDirectory({ dataDir: config.dataDir, lockFile, timeoutMs: config.lockTimeoutMs }));
  for (const directory of [config.dataDir, layout.hostDirectory, layout.sandboxesDirectory])
    await mkdir(directory, { recursive: true, mode: 0o711 });
  await makeReachable(config.dataDir);
  const images = await loadImages(config.dataDir);
  if (!images) throw new AppError('invalid_state', `no images in ${config.dataDir}: build them with 'npm run images'`);

  const claim = cleanup.use(
    await claimMachine(
      { logger },
      {
        dataDir: config.dataDir,
        file: layout.claimFile,
        runDirectory: config.runDirectory,
        wanted: config.claim,
      },
    ),
  );
  logger.info(
    { prefix: claim.prefix, firstSlot: claim.firstSlot, maxSlots: claim.maxSlots },
    'claimed names and slots of this machine',
  );
  const faults = new FaultPoints(config.fault);
  const events = new EventOutbox({ directory: layout.eventsDirectory, clock: systemClock, logger });
  const journal = new SandboxJournal(layout.journalDirectory);
  await events.open();
  await journal.open();
  const registry = new SandboxRegistry({ journal, clock: systemClock, events, logger });
  const { cpuModel, kvmProbeTimeoutMs } = config;
  const cgroupParent = `aviary-${claim.prefix}`;
  const vmm = createVmm({ layout, images, cgroupParent, cpuModel, probeTimeoutMs: kvmProbeTimeoutMs, faults });
  const identity = await vmm.probe(AbortSignal.timeout(kvmProbeTimeoutMs + 60_000));
  logger.info(identity, 'VMM ready');
  const disks = createDiskStore({ dataDir: config.dataDir });
  const generations = await GenerationStore.open({ layout, clock: systemClock, logger, faults }, { readerGid: vmmGid });
  const templates = new TemplateStore({ layout, faults });
  await templates.open();
  const slots = cleanup.use(
    createSlotPool(
      { logger },
      {
        prefix: claim.prefix,
        owner: claim.owner,
        ...(claim.previousPrefix === undefined ? {} : { previousPrefix: claim.previousPrefix }),
        abandoned: claim.abandoned,
        size: Math.min(config.readySlots, claim.maxSlots),
        maxSlots: claim.maxSlots,
        firstIndex: claim.firstSlot,
      },
    ),
  );
  const connectGuest = (address: string, tokens: GuestTokens) => new GuestClient(address, tokens);
  const deps: StartDeps = {
    connectGuest,
    registry,
    vmm,
    identity,
    disks,
    generations,
    slots,
    images,
    layout,
    faults,
    logger,
  };
  const bootSnapshots = new BootSnapshots(deps);
  await bootSnapshots.open();
  const warmPool = new WarmPool({ ...deps, bootSnapshots }, { size: config.warmPoolSize });
  const garbage = new GarbageCollector({ generations }, [
    () => registry.list().flatMap(({ record }) => rootsOf(record)),
    () => templates.gcRoots(),
    () => bootSnapshots.gcRoots(),
  ]);
  const preparer = cleanup.use(new ResumePreparer({ generations, logger }));
  const services: SandboxServices = { ...deps, templates, bootSnapshots, warmPool, garbage, preparer };
  await recoverSandboxes(services, journal);
  const background = cleanup.use(new BackgroundWork(services, { reaperIntervalMs: config.reaperIntervalMs }));
  background.start();

  const link = new ControlPlaneLink(
    {
      events,
      clock: systemClock,
      logger,
      onCutOff: (reason) => pauseAllCutOff(services, reason),
    },
    {
      controlPlaneUrl: config.controlPlaneUrl,
      credentialsFile: layout.credentialsFile,
      hostTokenFile: config.hostTokenFile,
      dataDir: config.dataDir,
      address: `http://${config.listen.host}:${config.listen.port}`,
    },
  );
  await link.open();
  const server = createServer({ services, checkCaller: (headers) => link.checkCaller(headers), logger });
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.listen.port, config.listen.host, resolve);
  });
  cleanup.defer(() => closeServer(server, sessions));
  link.start();
  cleanup.use(link);
  const { port } = server.address() as AddressInfo;
  const owned = cleanup.move();
  const url = `http://${config.listen.host}:${port}`;
  logger.info({ url }, 'host agent ready');
  return { url, services, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Without a control plane nobody can reach or stop the sandboxes: they are put away safely until it is back. */
async function pauseAllCutOff(services: SandboxServices, reason: string): Promise<void> {
  services.logger.warn({ reason }, 'cut off from the control plane, pausing everything');
  const { paused, failures } = await pauseAll(services, newId('operation'));
  services.logger.warn({ paused: paused.length, failures }, 'paused what could be paused');
}

/** VMMs run under identities of their own and must get to their files: every directory above those needs the search permission. */
async function makeReachable(dataDir: string): Promise<void> {
  await chmod(dataDir, ((await stat(dataDir)).mode & 0o777) | 0o011);
  for (let directory = path.resolve(dataDir); directory !== '/'; directory = path.dirname(directory)) {
    if (((await stat(directory)).mode & 0o001) === 0) {
      throw new AppError(
        'invalid_state',
        `microVMs cannot reach their files below ${directory}: run 'chmod o+x ${directory}', or set AVIARY_DATA_DIR to another place`,
      );
    }
  }
}

/** Well within the time that service managers give, as warm microVMs are ended after it. */
const closeGraceMs = 2_000;

/** Lets calls under way finish for a moment, then cuts their connections. What they started goes on by its record. */
function closeServer(server: Http2Server, sessions: ReadonlySet<ServerHttp2Session>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, closeGraceMs);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
    // The control plane keeps its session open for ever: closing one lets its calls finish and takes no new ones.
    for (const session of sessions) session.close();
  });
}
