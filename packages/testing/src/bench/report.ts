import { readFileSync } from 'node:fs';
import os from 'node:os';

/** One measured thing: the product against its floor, both taken in this run. `ratio` and `tail` are better when lower. */
export interface BenchRow {
  name: string;
  unit: string;
  floor: number;
  product: number;
  /** product / floor; for rates floor / product. */
  ratio: number;
  /** p99 / p50 of the product's samples. */
  tail: number;
  samples: number;
}

export interface BenchReport {
  bench: string;
  machine: { cpus: number; model: string; memory_mb: number; accelerator: string };
  rows: BenchRow[];
}

/** The sample below which a share `q` of all samples lies; the nearest one, never an invented one. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))] ?? Number.NaN;
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** A row of times or sizes. `tailSamples` are those whose tail counts, when they were taken apart (under load). */
export function row(
  name: string,
  unit: string,
  samples: { floor: readonly number[]; product: readonly number[]; tail?: readonly number[] },
): BenchRow {
  const floor = median(samples.floor);
  const product = median(samples.product);
  const tail = samples.tail ?? samples.product;
  return {
    name,
    unit,
    floor: round(floor),
    product: round(product),
    ratio: round(product / floor),
    tail: round(quantile(tail, 0.99) / quantile(tail, 0.5)),
    samples: samples.product.length,
  };
}

export function machineFacts(accelerator: string): BenchReport['machine'] {
  const model = /model name\s*:\s*(.*)/.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? os.arch();
  return { cpus: os.availableParallelism(), model, memory_mb: Math.round(os.totalmem() / 2 ** 20), accelerator };
}

/** The report as a table for people. */
export function formatTable({ bench, machine, rows }: BenchReport): string {
  const header = ['', 'unit', 'floor', 'product', 'ratio', 'p99/p50', 'n'];
  const lines = rows.map((r) => [r.name, r.unit, r.floor, r.product, r.ratio, r.tail, r.samples].map(String));
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
