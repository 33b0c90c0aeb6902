import { type ChildProcess, spawn } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { runProgram, waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, expect, test } from 'vitest';

// An ordinary user of an ordinary machine: may use sudo, may not open what is root's, and has KVM.
const cli = path.join(import.meta.dirname, '../main.ts');
const anyExitCode = Array.from({ length: 256 }, (_, code) => code);
const asUser = (...command: readonly string[]) => ['--user=dev', '--set-home', '--', 'env', ...command];
let dataDir: string;
let up: ChildProcess | undefined;
let log = '';
let settings: string[];

async function aviary(...args: readonly string[]) {
  const command = [...settings, process.execPath, cli, ...args];
  const { stdout, stderr, exitCode } = await runProgram('sudo', asUser(...command), {
    okExitCodes: anyExitCode,
    timeoutMs: 200_000,
  });
  return { stdout, stderr, exitCode };
}

beforeAll(async () => {
  dataDir = await mkdtemp('/data/up-');
  await cp(path.join(process.env['AVIARY_TEST_DATA_DIR'] ?? '', 'images'), path.join(dataDir, 'images'), {
    recursive: true,
  });
  settings = [
    ...[`AVIARY_DATA_DIR=${dataDir}`, 'AVIARY_PREBUILT_IMAGES=1', 'NO_COLOR=1'],
    `PATH=${process.env['PATH'] ?? ''}`,
  ];
});
afterAll(async () => {
  if (up && up.exitCode === null) {
    const ended = new Promise((resolve) => up?.once('exit', resolve));
    up.kill('SIGTERM');
    await ended;
  }
  await rm(dataDir, { recursive: true, force: true });
});

test('doctor is content with KVM before anything was started', async () => {
  const { stdout, exitCode } = await aviary('doctor', '--json');
  const { checks } = JSON.parse(stdout) as { checks: { name: string; status: string; detail: string }[] };
  expect(checks.filter(({ status }) => status === 'fail')).toEqual([]);
  expect(checks.find(({ name }) => name === 'accelerator')?.detail).toContain('/dev/kvm can be opened');
  expect(checks.find(({ name }) => name === 'cgroups')?.detail).toContain('memory (version 2)');
  expect(exitCode).toBe(0);
});

test('a user with sudo starts the platform, runs code under it, and doctor says that it was tried', async () => {
  const child = spawn('sudo', asUser(...settings, process.execPath, cli, 'up'), { stdio: ['ignore', 'pipe', 'pipe'] });
  up = child;
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-100_000);
    });
  await waitFor({ what: 'aviary up', timeoutMs: 240_000, intervalMs: 200 }, () => {
    if (child.exitCode !== null) throw new Error(`aviary up ended: ${log.slice(-3_000)}`);
    return log.includes('Aviary is running');
  });
  const key = (await runProgram('cat', [path.join(dataDir, 'bootstrap/api-key')])).stdout.trim();
  settings.push(`AVIARY_API_KEY=${key}`);
  const ran = await aviary('run', '--', 'id -un; uname -r');
  expect(ran.stdout).toMatch(/^user\n\d/);
  expect(ran.exitCode).toBe(0);
  const { stdout } = await aviary('doctor', '--json');
  const { checks } = JSON.parse(stdout) as { checks: { name: string; status: string; detail: string }[] };
  expect(checks.find(({ name }) => name === 'accelerator')).toMatchObject({ status: 'ok' });
  expect(log).toContain('kvm');
});
