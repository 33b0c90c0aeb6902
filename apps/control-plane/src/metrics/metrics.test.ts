import { openDatabase } from '@aviary/database';
import { silentLogger } from '@aviary/service-kit';
import { expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { ControlPlaneMetrics } from './control-plane-metrics.ts';

const settings = { host: '127.0.0.1', port: 0, token: undefined };

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** Reads Prometheus' text format strictly: every sample belongs to a family with help and type, and comes once. */
function parse(text: string): Sample[] {
  expect(text.endsWith('\n')).toBe(true);
  const types = new Map<string, string>();
  const seen = new Set<string>();
  // Numbers are read as Go reads them, whatever the case of NaN.
  return text.split('\n').flatMap((line): Sample[] => {
    if (line === '' || line.startsWith('# HELP ')) return [];
    const type = /^# TYPE ([a-z_]\w*) (counter|gauge|histogram|summary)$/.exec(line);
    if (type) {
      expect(types.has(String(type[1])), line).toBe(false);
      types.set(String(type[1]), String(type[2]));
      return [];
    }
    const sample = /^([a-z_]\w*)(?:\{(.*)\})? ([Nn]a[Nn]|[+-]Inf|-?\d[\d.e+-]*)$/.exec(line);
    expect(sample, line).not.toBeNull();
    const [, name = '', inner = '', value] = sample ?? [];
    const pairs = [...inner.matchAll(/([a-z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/g)];
    expect(pairs.map(([whole]) => whole).join(''), line).toBe(inner);
    expect(types.has(name) || types.get(name.replace(/_(bucket|sum|count)$/, '')) !== undefined, line).toBe(true);
    expect(seen.has(`${name}{${inner}}`), line).toBe(false);
    seen.add(`${name}{${inner}}`);
    return [{ name, labels: Object.fromEntries(pairs.map(([, key, text]) => [key, text])), value: Number(value) }];
  });
}

async function scrape({
  controlPlane,
}: Pick<TestPlatform, 'controlPlane'>): Promise<(name: string, labels?: object) => number> {
  const reply = await fetch(String(controlPlane.metricsUrl));
  expect(reply.status).toBe(200);
  return lookUp(await reply.text());
}

function lookUp(text: string): (name: string, labels?: object) => number {
  const samples = parse(text);
  return (name, labels = {}) => {
    const found = samples.filter(
      (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
    );
    return found.reduce((sum, { value }) => sum + value, 0);
  };
}

test('tells of requests, operations and what there is, and of no team or sandbox by name', async () => {
  await using platform = await startTestPlatform({ config: { metrics: settings } });
  const created = await platform.call('POST', '/v1/sandboxes', { body: {}, headers: { prefer: 'wait=10' } });
  expect(created.status).toBe(201);
  const id: string = created.body.id;
  await platform.call('GET', `/v1/sandboxes/${id}`);
  await platform.call('GET', '/health');
  for (const path of ['a', 'b', 'c']) await platform.call('GET', `/nowhere/${path}`);
  const value = await scrape(platform);
  const requests = (labels: object) => value('aviary_http_request_duration_seconds_count', labels);
  expect(requests({ method: 'POST', route: '/v1/sandboxes', status: '201' })).toBe(1);
  expect(requests({ method: 'GET', route: '/v1/sandboxes/:id', status: '200' })).toBe(1);
  expect(requests({ route: '/health' })).toBe(1);
  expect(requests({ method: 'other', route: 'unknown', status: '404' })).toBe(3);
  expect(value('aviary_operation_duration_seconds_count', { outcome: 'succeeded' })).toBe(1);
  expect(value('aviary_operation_phase_duration_seconds_count', { phase: 'settled' })).toBe(1);
  expect(value('aviary_sandboxes', { status: 'running' })).toBe(1);
  expect(value('aviary_hosts')).toBe(1);
  expect(value('aviary_operations')).toBe(0);
  expect(value('aviary_database_up')).toBe(1);
  expect(value('process_resident_memory_bytes')).toBeGreaterThan(1e6);
  const text = await (await fetch(String(platform.controlPlane.metricsUrl))).text();
  for (const secret of [id, id.replace(/^sb-/, ''), platform.teamId, platform.host.id])
    expect(text).not.toContain(secret);
}, 60_000);

/** Counters over an embedded database, as they are without the rest of a replica. */
async function createMetrics() {
  const database = await openDatabase({});
  return { database, metrics: new ControlPlaneMetrics({ database, logger: silentLogger }) };
}

test('names of steps that a host makes up become one series, and a database that is away hides nothing else', async () => {
  const { database, metrics } = await createMetrics();
  await database[Symbol.asyncDispose]();
  const note = (names: string[]) =>
    metrics.noteSettled({
      ...{ kind: 'create', outcome: 'succeeded', ms: 10 },
      phases: names.map((name) => ({ name, ms: 1 })),
    });
  note(['queued', 'host.boot', 'host.Robert"}; x', `host.${'y'.repeat(100)}`]);
  const letters = [...'abcdefghijklmnopqrstuvwxyz'];
  note(letters.flatMap((first) => letters.map((second) => `host.${first}${second}`)));
  const value = lookUp(await metrics.read());
  const steps = (phase?: string) =>
    value('aviary_operation_phase_duration_seconds_count', phase === undefined ? {} : { phase });
  expect([steps('queued'), steps('host.boot')]).toEqual([1, 1]);
  expect(steps()).toBe(4 + 26 * 26);
  expect(steps('other')).toBe(2 + 26 * 26 - 62);
  expect([value('aviary_database_up'), value('aviary_sandboxes')]).toEqual([0, 0]);
  expect(value('aviary_operation_duration_seconds_count', { kind: 'create', outcome: 'succeeded' })).toBe(2);
});

test('the API has no such route', async () => {
  await using platform = await startTestPlatform();
  expect(platform.controlPlane.metricsUrl).toBeUndefined();
  expect((await platform.call('GET', '/metrics')).status).toBe(404);
}, 60_000);
