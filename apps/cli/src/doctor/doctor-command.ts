import { errorText } from '@aviary/core';
import { findApiUrl } from '../api-client.ts';
import type { Command } from '../command.ts';
import type { CliConfig } from '../config.ts';
import { ExitWith, exitCodes } from '../exit-codes.ts';
import type { Output, Style } from '../output.ts';
import { type Check, checks, type Finding } from './checks.ts';
import { type Machine, thisMachine } from './machine.ts';

export interface Diagnosis extends Finding {
  name: string;
}

/** Runs every check; one that breaks is a failed check, not the end. */
export async function examine(
  machine: Machine,
  config: CliConfig,
  all: readonly Check[] = checks,
): Promise<Diagnosis[]> {
  const found: Diagnosis[] = [];
  for (const { name, run } of all) {
    const finding = await run(machine, config).catch(
      (error: unknown): Finding => ({ status: 'fail', detail: `cannot check: ${errorText(error)}` }),
    );
    found.push({ name, ...finding });
  }
  return found;
}

/** `aviary doctor`. */
export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'Check what this machine needs to run Aviary, and say how to fix it',
  details: 'Ends with 1 when something must be fixed; warnings do not count.',
  examples: ['aviary doctor', 'aviary doctor --json'],
  async run({ config, output }) {
    const found = await examine(thisMachine, { ...config, apiUrl: findApiUrl(config) });
    const failed = found.filter(({ status }) => status === 'fail').length;
    output.result({ ok: failed === 0, checks: found }, () => renderDiagnoses(output, found));
    if (failed > 0) throw new ExitWith(exitCodes.failure);
  },
};

const marks: Record<Finding['status'], { text: string; style: Style }> = {
  ok: { text: 'ok  ', style: 'green' },
  warn: { text: 'warn', style: 'yellow' },
  fail: { text: 'FAIL', style: 'red' },
};

function renderDiagnoses(output: Output, found: readonly Diagnosis[]): string {
  const width = Math.max(...found.map(({ name }) => name.length));
  const lines = found.flatMap(({ name, status, detail, fix }) => [
    `${output.paint(marks[status].style, marks[status].text, 'stdout')}  ${name.padEnd(width)}  ${detail}`,
    ...(fix ? [`${' '.repeat(width + 8)}fix: ${fix}`] : []),
  ]);
  const count = (status: Finding['status']) => found.filter((one) => one.status === status).length;
  return [...lines, '', `${count('ok')} ok, ${count('warn')} to look at, ${count('fail')} to fix`].join('\n');
}
