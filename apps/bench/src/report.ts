import { readFileSync } from 'node:fs';
import os from 'node:os';

/** One measured thing: the product against its floor, both taken in this run. `ratio` and `tail` are better when lower. */
export interface BenchRow {
  name: string;
  unit: string;
  /** Null where there is nothing to compare with. */
  floor: number | null;
  product: number;
  /** product / floor; for rates floor / product. Null where the floor is nothing. */
  ratio: number | null;
  /** p99 / p50 of the product's samples. */
  tail: number;
  samples: number;
  /** The most that `product` should be, of a rate the least, worked out from this run's floor; absent where no target is set. */
  limit?: number;
  /** The most that `tail` should be. */
  tail_limit?: number;
  /** The machine's one-minute load average when the row was complete. */
  load: number;
}

export interface BenchReport {
  bench: string;
  machine: { cpus: number; model: string; memory_mb: number; accelerator: string };
  rows: BenchRow[];
}

export interface BenchOptions {
  samples: number;
  /** Told each row as it is complete. */
  onRow: (row: BenchRow) => void;
}

/** The sample below which a share `q` of all samples lies; the nearest one, never an invented one. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))] ?? Number.NaN;
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** What a row's figure should stay below, given the floor's median. */
export interface RowLimits {
  limit?: (floor: number) => number;
  tail?: number;
}

/** A row of times or sizes. `tail` samples are those whose tail counts, when they were taken apart (under load). */
export function row(
  name: string,
  unit: string,
  samples: { floor: readonly number[]; product: readonly number[]; tail?: readonly number[] },
  limits: RowLimits = {},
): BenchRow {
  const floor = samples.floor.length === 0 ? undefined : median(samples.floor);
  const product = median(samples.product);
  const tail = samples.tail ?? samples.product;
  return {
    name,
    unit,
    floor: floor === undefined ? null : round(floor),
    product: round(product),
    ratio: floor ? round(product / floor) : null,
    tail: round(quantile(tail, 0.99) / quantile(tail, 0.5)),
    samples: samples.product.length,
    ...(limits.limit ? { limit: round(limits.limit(floor ?? 0)) } : {}),
    ...(limits.tail === undefined ? {} : { tail_limit: limits.tail }),
    load: round(os.loadavg()[0] ?? 0),
  };
}

/** A row of rates in a second, which should reach `share` of the floor's. `tail` samples are times of single requests. */
export function rateRow(
  name: string,
  samples: { floor: readonly number[]; product: readonly number[]; tail: readonly number[] },
  { share, tail }: { share: number; tail?: number },
): BenchRow {
  const limits = { limit: (floor: number) => floor * share, ...(tail === undefined ? {} : { tail }) };
  const one = row(name, '1/s', samples, limits);
  return { ...one, ratio: one.floor === null ? null : round(one.floor / one.product) };
}

export function machineFacts(accelerator: string): BenchReport['machine'] {
  const model = /model name\s*:\s*(.*)/.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? os.arch();
  return { cpus: os.availableParallelism(), model, memory_mb: Math.round(os.totalmem() / 2 ** 20), accelerator };
}

/** The report as a table for people. */
export function formatTable({ bench, machine, rows }: BenchReport): string {
  const header = ['', 'unit', 'floor', 'product', 'ratio', 'limit', 'p99/p50', 'n', 'load'];
  const lines = rows.map((r) =>
    [r.name, r.unit, r.floor ?? '-', r.product, r.ratio ?? '-', r.limit ?? '-', r.tail, r.samples, r.load].map(String),
  );
  const widths = header.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i]?.length ?? 0)));
  const format = (cells: readonly string[]) =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ');
  return [
    `${bench}: ${machine.cpus} × ${machine.model}, ${machine.memory_mb} MB, ${machine.accelerator}`,
    format(header),
    ...lines.map(format),
  ].join('\n');
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}
