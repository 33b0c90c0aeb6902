import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { expect, it } from 'vitest';

const runNode = path.join(import.meta.dirname, '..', 'bin', 'run-node.mjs');

/** A program that says when it can be stopped, and how it was. */
const program = `
  for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => { console.log(name); process.exit(7); });
  console.log('ready');
  setInterval(() => undefined, 1_000);
`;

it.each(['SIGINT', 'SIGTERM'] as const)(
  'passes a %s that came to it alone on, and ends as the program does',
  async (signal) => {
    const script = `import(${JSON.stringify(runNode)}).then((m) => m.runNode(process.execPath, ['-e', ${JSON.stringify(program)}]))`;
    const wrapper = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
    let written = '';
    wrapper.stdout.on('data', (data) => {
      written += data;
      if (written === 'ready\n') wrapper.kill(signal);
    });
    const [code] = await once(wrapper, 'close');
    expect({ code, written }).toEqual({ code: 7, written: `ready\n${signal}\n` });
  },
);
