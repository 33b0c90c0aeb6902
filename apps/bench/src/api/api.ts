import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createHostToken } from '@aviary/control-plane';
import { type Database, openDatabase } from '@aviary/database';
import { systemClock, waitFor } from '@aviary/service-kit';
import { startTestPostgres } from '@aviary/testing';
import { type BenchOptions, type BenchReport, type BenchRow, machineFacts, rateRow, row } from '../report.ts';
import { repeat } from '../timed.ts';
import { type Child, startChild } from './child-process.ts';
import type { FloorTasks } from './floor-child.ts';
import { type HeldHost, startHeldHost } from './held-host.ts';
import type { Load, LoadTasks } from './load-child.ts';
import type { ProductTasks } from './product-child.ts';
import { countRunning, stopSandboxes } from './sandbox-rows.ts';

const connections = 16;
/** Short turns, and more of them than samples: what else the machine does hits both alike. */
const turn = { durationMs: 500 };
const turnsPerSample = 2;
/** Both servers are asked this often before anything counts: code that has not run often is slow, whoever's it is. */
const warmUp = { rounds: 5, maxAnswers: 1_000, durationMs: 8_000 };
/** Of the least that the product reaches of the floor's requests in a second. */
const shares = { get: 0.6, create: 0.3 };
const maxTail = 3;
/** What accepting a sandbox asks of the database in its transaction, BEGIN and COMMIT left out. */
const createStatements = { reads: 6, writes: 3 };
const sandboxCount = 20;
const hostCount = 4;
const storm = { people: 8, connections: 24, durationMs: 5_000, maxDelayMs: 50 };

interface Bed {
  database: Database;
  host: HeldHost;
  load: Child<LoadTasks>;
  floor: Child<FloorTasks>;
  product: Child<ProductTasks>;
  floorUrl: string;
  productUrl: string;
  apiKey: string;
  sandboxIds: string[];
}

/**
 * Requests in a second to the API, against a bare Fastify server that asks the same PostgreSQL for one row by its key, or for as many
 * statements in a transaction; and how late the event loop is while many people log in. Server, load and database are processes of
 * their own; floor and product are asked in turns.
 */
export async function benchApi({ samples, onRow }: BenchOptions): Promise<BenchReport> {
  await using stack = new AsyncDisposableStack();
  const bed = await openBed(stack);
  const rows: BenchRow[] = [];
  const add = (one: BenchRow) => {
    rows.push(one);
    onRow(one);
  };
  add(await measureGet(bed, samples));
  add(await measureCreate(bed, samples));
  add(await measureLogIns(bed, Math.ceil(samples / 3)));
  return { bench: 'api', machine: machineFacts('none'), rows };
}

async function openBed(stack: AsyncDisposableStack): Promise<Bed> {
  const server = stack.use(await startTestPostgres());
  const url = await server.createDatabase();
  const dataDirectory = await mkdtemp(path.join(tmpdir(), 'aviary-bench-api-'));
  stack.defer(() => rm(dataDirectory, { recursive: true, force: true }));
  const child = <T extends FloorTasks | LoadTasks | ProductTasks>(name: string, env: Record<string, string> = {}) =>
    stack.use(startChild<T>(path.join(import.meta.dirname, `${name}-child.ts`), { env, execArgv: profiling(name) }));
  const product = child<ProductTasks>('product', {
    AVIARY_PORT: '0',
    AVIARY_DATABASE_URL: url,
    AVIARY_DATA_DIR: dataDirectory,
    // The host refuses what it was asked after each turn, and that is all there would be to tell.
    AVIARY_LOG_LEVEL: 'fatal',
    AVIARY_TRUSTED_PROXIES: '127.0.0.1',
    // Counted as ever, and never used up.
    ...Object.fromEntries(['KEY', 'USER', 'TEAM', 'ADDRESS'].map((name) => [`AVIARY_RATE_LIMIT_${name}`, '10000000'])),
  });
  const productUrl = await product.ask('start', null);
  const floor = child<FloorTasks>('floor', { AVIARY_DATABASE_URL: url });
  const floorUrl = await floor.ask('start', null);
  const load = child<LoadTasks>('load');
  const database = stack.use(await openDatabase({ url, poolSize: 2 }));
  const host = stack.use(await startHeldHost());
  for (let i = 0; i < hostCount; i++) await registerHost(database, { productUrl, address: host.address });
  const apiKey = (await readFile(path.join(dataDirectory, 'bootstrap', 'api-key'), 'utf8')).trim();
  const sandboxIds = await repeat(sandboxCount, async () => {
    const { id } = (await postJson(`${productUrl}/v1/sandboxes`, {}, { 'x-api-key': apiKey })) as { id: string };
    return id;
  });
  return { database, host, load, floor, product, floorUrl, productUrl, apiKey, sandboxIds };
}

/** `AVIARY_BENCH_PROFILE=product` writes a profile of that process into the working directory. */
function profiling(name: string): string[] {
  return process.env['AVIARY_BENCH_PROFILE'] === name ? ['--cpu-prof'] : [];
}

async function registerHost(database: Database, { productUrl, address }: { productUrl: string; address: string }) {
  const { token } = await createHostToken({ database, clock: systemClock }, { teamId: null });
  const size = { cpu_cores: 512, memory_mb: 4_000_000, disk_gb: 100_000 };
  await postJson(`${productUrl}/v1/hosts/register`, { token, address, arch: 'x86_64', agent_version: '1', ...size });
}

async function postJson(url: string, body: object, headers: Record<string, string> = {}): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
  return response.json();
}

/** One HTTP/1.1 request as it goes over the wire. */
function wire(line: string, { headers = {}, body }: { headers?: Record<string, string>; body?: object } = {}): string {
  const text = body === undefined ? '' : JSON.stringify(body);
  const all = {
    host: 'bench',
    ...headers,
    ...(text ? { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) } : {}),
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  return [`${line} HTTP/1.1`, ...lines, '', text].join('\r\n');
}

async function measureGet({ load, floorUrl, productUrl, apiKey, sandboxIds }: Bed, samples: number): Promise<BenchRow> {
  const headers = { 'x-api-key': apiKey };
  const ask = (request: Pick<Load, 'url' | 'requests'>, length: Pick<Load, 'durationMs' | 'maxAnswers'> = turn) =>
    load.ask('send', { ...request, connections, ...length, status: 200 });
  const floor = { url: floorUrl, requests: sandboxIds.map((id) => wire(`GET /sandboxes/${id.slice(3)}`)) };
  const product = { url: productUrl, requests: sandboxIds.map((id) => wire(`GET /v1/sandboxes/${id}`, { headers })) };
  for (const one of [floor, product]) await repeat(warmUp.rounds, () => ask(one, warmUp));
  const rates = { floor: [] as number[], product: [] as number[] };
  const latencies: number[] = [];
  for (let i = 0; i < samples * turnsPerSample; i++) {
    rates.floor.push((await ask(floor)).rate);
    const { rate, latenciesMs } = await ask(product);
    rates.product.push(rate);
    latencies.push(...latenciesMs);
  }
  return rateRow('api_get', { ...rates, tail: latencies }, { share: shares.get, tail: maxTail });
}

async function measureCreate(bed: Bed, samples: number): Promise<BenchRow> {
  const { load, floorUrl, productUrl, apiKey } = bed;
  const ask = (request: Pick<Load, 'url' | 'requests'>, length: Pick<Load, 'durationMs' | 'maxAnswers'> = turn) =>
    load.ask('send', { ...request, connections, ...length, status: 202 });
  const body = { template: 'minimal' };
  const { reads, writes } = createStatements;
  const floor = { url: floorUrl, requests: [wire(`POST /rows?reads=${reads}&writes=${writes}`, { body })] };
  const request = wire('POST /v1/sandboxes', { headers: { 'x-api-key': apiKey }, body });
  const product = { url: productUrl, requests: [request] };
  const create = async (length?: Pick<Load, 'durationMs' | 'maxAnswers'>) => {
    const result = await ask(product, length);
    await clear(bed);
    return result;
  };
  await repeat(warmUp.rounds, () => ask(floor, warmUp));
  await repeat(warmUp.rounds, () => create(warmUp));
  const rates = { floor: [] as number[], product: [] as number[] };
  const latencies: number[] = [];
  for (let i = 0; i < samples * turnsPerSample; i++) {
    rates.floor.push((await ask(floor)).rate);
    const { rate, latenciesMs } = await create();
    rates.product.push(rate);
    latencies.push(...latenciesMs);
  }
  return rateRow('api_create', { ...rates, tail: latencies }, { share: shares.create });
}

/** Ends what was accepted, so that each turn begins with hosts as empty as those before. */
async function clear({ database, host }: Bed): Promise<void> {
  await waitFor({ what: 'the end of what was accepted', timeoutMs: 60_000, intervalMs: 20 }, async () => {
    host.refuseAll();
    return (await countRunning(database.db)) === 0;
  });
  await stopSandboxes(database.db);
}

async function measureLogIns({ load, product, productUrl }: Bed, samples: number): Promise<BenchRow> {
  const people = Array.from({ length: storm.people }, (_, nth) => `person-${nth}@example.com`);
  const password = randomBytes(12).toString('hex');
  for (const email of people) await postJson(`${productUrl}/v1/auth/signup`, { email, password });
  const delays = await repeat(samples, async (nth) => {
    // Each from elsewhere: what one place may try is limited.
    const requests = Array.from({ length: 240 }, (_, i) =>
      wire('POST /v1/auth/login', {
        headers: { 'x-forwarded-for': `10.${nth}.0.${i}` },
        body: { email: people[i % people.length], password },
      }),
    );
    await product.ask('watchDelay', null);
    const { connections: count, durationMs } = storm;
    await load.ask('send', { url: productUrl, requests, connections: count, durationMs, status: 200 });
    return product.ask('readDelay', null);
  });
  return row('login_storm', 'ms', { floor: [], product: delays }, { limit: () => storm.maxDelayMs });
}
