import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';

const main = path.join(import.meta.dirname, '../main.ts');
let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'aviary-questions-'));
});
afterAll(() => rm(home, { recursive: true, force: true }));

it('a new password is typed twice at a terminal, unseen, and two that differ set nothing', async () => {
  // Nothing listens there: the two are compared before anybody is called.
  const command = `'${process.execPath}' '${main}' signup --email ada@example.com --url http://127.0.0.1:1`;
  const env = { PATH: process.env['PATH'], HOME: home, AVIARY_DATA_DIR: home, NO_COLOR: '1' };
  const terminal = spawn('script', ['-qfec', command, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] });
  let screen = '';
  terminal.stdout.setEncoding('utf8').on('data', (text: string) => {
    screen += text;
  });
  const ended = new Promise((resolve) => terminal.once('exit', resolve));
  try {
    await expect.poll(() => screen, { timeout: 20_000 }).toContain('Password: ');
    terminal.stdin.write('correct horse\r');
    await expect.poll(() => screen, { timeout: 20_000 }).toContain('The same again: ');
    terminal.stdin.write('correct house\r');
    expect(await ended).toBe(2);
    expect(screen).toContain('the two passwords are not the same; nothing was changed');
    expect(screen).not.toMatch(/horse|house/);
  } finally {
    terminal.kill('SIGKILL');
    await ended;
  }
});
