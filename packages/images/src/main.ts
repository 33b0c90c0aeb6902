import path from 'node:path';
import { parseArgs } from 'node:util';
import { errorText } from '@aviary/core';
import { buildImages } from './build-images.ts';
import { loadConfig } from './config.ts';
import { installHostPackages, missingHostPackages } from './host-packages.ts';
import type { ImageProgress } from './progress.ts';

const usage = `usage: npm run images -- [--data-dir DIR] [--agent FILE] [--refresh]

Builds the guest kernel, initramfs, toolbox and the minimal root file system; what is there already is kept.
  --data-dir DIR  where to (default: AVIARY_DATA_DIR, or /var/lib/aviary)
  --agent FILE    the guest agent's entry file (default: this checkout's)
  --refresh       make the kernel and the root file system again from today's packages`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      'data-dir': { type: 'string' },
      agent: { type: 'string' },
      refresh: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${usage}\n`);
    return;
  }
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => stop.abort(new Error(`stopped by ${name}`)));
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const missing = await missingHostPackages({ purposes: ['images'] });
  await installHostPackages({ missing, onProgress: say, signal: stop.signal });
  const images = await buildImages({
    dataDir: values['data-dir'] ?? loadConfig(process.env).dataDir,
    guestAgentEntry: values.agent ?? path.join(import.meta.dirname, '../../../apps/guest-agent/src/main.ts'),
    onProgress: (progress) => {
      const line = progressLine(progress);
      if (line !== undefined) say(line);
    },
    signal: stop.signal,
    refresh: values.refresh,
  });
  process.stdout.write(`${JSON.stringify(images, undefined, 2)}\n`);
}

function progressLine(progress: ImageProgress): string | undefined {
  switch (progress.type) {
    case 'waiting':
      return `waiting: ${progress.detail}`;
    case 'finished': {
      const seconds = (progress.elapsedMs / 1000).toFixed(1);
      return `${progress.detail}: ${progress.isCached ? 'up to date' : 'built'} (${seconds} s)`;
    }
    case 'started':
    case 'working':
      return undefined;
    default:
      return progress satisfies never;
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${errorText(error)}\n`);
  process.exitCode = 1;
}
