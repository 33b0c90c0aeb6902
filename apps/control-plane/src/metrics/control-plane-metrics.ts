import { errorText } from '@aviary/core';
import { withDeadline } from '@aviary/service-kit';
import type { FastifyInstance } from 'fastify';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { ServiceContext } from '../context.ts';
import type { SettledOperation } from '../operations/operation-runner.ts';
import { type Counts, countPlatform, type PlatformCounts } from './metrics-store.ts';

const requestSeconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60];
const operationSeconds = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120];
const countTimeoutMs = 5_000;
/** Hosts tell names of steps of their own: no more than these become series. */
const maxPhases = 64;

const countLabels = {
  sandboxes: 'status',
  hosts: 'status',
  operations: 'state',
  events: 'hook',
  mails: 'state',
} as const satisfies Record<keyof PlatformCounts, string>;

type Deps = Pick<ServiceContext, 'database' | 'logger'>;

/** What this replica does, and what the database says of the platform. No label names a team, a person or a sandbox. */
export class ControlPlaneMetrics {
  readonly #deps: Deps;
  readonly #registry = new Registry();
  readonly #phases = new Set<string>();
  readonly #requests: Histogram<'method' | 'route' | 'status'>;
  readonly #operations: Histogram<'kind' | 'outcome'>;
  readonly #steps: Histogram<'kind' | 'phase'>;
  readonly #databaseUp: Gauge;
  readonly #gauges: Record<keyof PlatformCounts, Gauge>;

  constructor(deps: Deps) {
    this.#deps = deps;
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#requests = new Histogram({
      ...{ name: 'aviary_http_request_duration_seconds', help: 'Requests to this replica, until their answers ended.' },
      ...{ labelNames: ['method', 'route', 'status'], buckets: requestSeconds, registers },
    });
    this.#operations = new Histogram({
      ...{
        name: 'aviary_operation_duration_seconds',
        help: 'Operations this replica ended, since they were accepted.',
      },
      ...{ labelNames: ['kind', 'outcome'], buckets: operationSeconds, registers },
    });
    this.#steps = new Histogram({
      ...{ name: 'aviary_operation_phase_duration_seconds', help: 'Steps of the operations this replica ended.' },
      ...{ labelNames: ['kind', 'phase'], buckets: operationSeconds, registers },
    });
    const gauge = (name: string, help: string, label?: string) =>
      new Gauge({ name, help, registers, ...(label === undefined ? {} : { labelNames: [label] }) });
    this.#databaseUp = gauge(
      'aviary_database_up',
      '1 when the database answered; without it, what it counts is left out.',
    );
    this.#gauges = {
      sandboxes: gauge('aviary_sandboxes', 'Sandboxes of all teams that are not gone.', countLabels.sandboxes),
      hosts: gauge('aviary_hosts', 'Hosts of the platform and of all teams.', countLabels.hosts),
      operations: gauge(
        'aviary_operations',
        'Operations under way, and due: those that no replica is at.',
        countLabels.operations,
      ),
      events: gauge(
        'aviary_events_waiting',
        'Events of sandboxes that a hook has still to hear, at most 10000.',
        countLabels.events,
      ),
      mails: gauge('aviary_mails', 'Mails that wait, and that could not be sent.', countLabels.mails),
    };
  }

  /** Counts every request to `app` by its route's template. */
  watchRequests(app: FastifyInstance): void {
    app.addHook('onResponse', async (request, reply) => {
      const { url: route } = request.routeOptions;
      const isKnown = route !== undefined && !request.is404;
      const labels = isKnown ? { method: request.method, route } : { method: 'other', route: 'unknown' };
      this.#requests.observe({ ...labels, status: reply.statusCode }, reply.elapsedTime / 1000);
    });
  }

  noteSettled({ kind, outcome, ms, phases }: SettledOperation): void {
    this.#operations.observe({ kind, outcome }, ms / 1000);
    for (const phase of phases) this.#steps.observe({ kind, phase: this.#boundedPhase(phase.name) }, phase.ms / 1000);
  }

  /** All of it in Prometheus' text format. */
  async read(): Promise<string> {
    const counts = await this.#count();
    this.#databaseUp.set(counts ? 1 : 0);
    for (const [name, gauge] of Object.entries(this.#gauges) as [keyof PlatformCounts, Gauge][])
      setCounts(gauge, { label: countLabels[name], counts: counts?.[name] ?? {} });
    return this.#registry.metrics();
  }

  async #count(): Promise<PlatformCounts | undefined> {
    const { database, logger } = this.#deps;
    try {
      const bounds = { what: 'counting for the metrics', timeoutMs: countTimeoutMs };
      return await withDeadline(bounds, () => countPlatform(database.db));
    } catch (error) {
      logger.warn({ error: errorText(error) }, 'the database does not answer the metrics');
      return undefined;
    }
  }

  #boundedPhase(name: string): string {
    if (this.#phases.has(name)) return name;
    if (this.#phases.size >= maxPhases || !/^[a-z_]{1,32}(\.[a-z_]{1,32})?$/.test(name)) return 'other';
    this.#phases.add(name);
    return name;
  }
}

/** A status of which there are none any more has no series of the past. */
function setCounts(gauge: Gauge, { label, counts }: { label: string; counts: Counts }): void {
  gauge.reset();
  for (const [value, count] of Object.entries(counts)) gauge.set({ [label]: value }, count);
}
