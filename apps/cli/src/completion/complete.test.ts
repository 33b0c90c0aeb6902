import { createServer, type Socket } from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeProfiles } from '../account/profile-store.ts';
import { commands } from '../commands.ts';
import { fakeApiKey } from '../fake-api.ts';
import { TestCli } from '../test-cli.ts';
import { complete } from './complete.ts';

let cli: TestCli;
beforeEach(async () => {
  cli = await TestCli.open();
});
afterEach(() => cli[Symbol.asyncDispose]());

/** Lines that the program prints for a shell. */
async function linesFor(...words: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await cli.run('__complete', '--', ...words);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout.trimEnd().split('\n');
}

describe('completing', () => {
  it('prints what fits, with what is said about it', async () => {
    expect(await linesFor('sandbox', 'fo')).toEqual([
      'words',
      "fork\tMake sandboxes that go on from another one's memory and disk",
    ]);
    expect(await linesFor('ls', '--status=run')).toEqual(['words', '--status=running']);
    expect(await linesFor('help', 'team', 'inv')).toEqual([
      'words',
      'invite\tAdd a member by e-mail, or invite who has no account yet',
      'invitations\tList invitations that are open',
    ]);
    expect(await linesFor('files', 'put', 'sb-1', '')).toEqual(['paths']);
    expect(await linesFor('exec', 'sb-1', '--', '')).toEqual(['words']);
    expect((await linesFor('')).length).toBeGreaterThan(20);
    expect((await cli.run('__complete')).code).toBe(0);
    expect((await cli.run('help')).stdout).not.toContain('__complete');
  });

  it('knows the sandboxes that there are, by name and id', async () => {
    const { id } = cli.api.addSandbox({ metadata: { name: 'my box' } });
    const other = cli.api.addSandbox({ status: 'paused' });
    cli.api.addSandbox({ status: 'stopped' });
    expect(await linesFor('rm', '')).toEqual([
      'words',
      'my box\trunning, from minimal',
      `${id}\tmy box: running, from minimal`,
      `${other.id}\tpaused, from minimal`,
    ]);
    expect(await linesFor('rm', 'my box', other.id, '')).toEqual(['words', `${id}\tmy box: running, from minimal`]);
  });

  it('offers no name that is a flag to the program or a command to the terminal', async () => {
    for (const name of ['--all', 'two\nlines', '\u001b]0;title\u0007', 'a\tb', '\u202eback'])
      cli.api.addSandbox({ metadata: { name }, template: 'bad\u001b[2J\tone' });
    const lines = await linesFor('rm', '');
    expect(lines).toHaveLength(6);
    for (const line of lines.slice(1)) expect(line).toMatch(/^sb-[-0-9]+\t\P{C}+$/u);
  });

  it('knows templates and snapshots', async () => {
    const sizes = { memory_mb: 512, disk_size_mb: 5_120, created_at: '2026-01-01T00:00:00.000Z' };
    for (const name of ['minimal', 'after-install']) cli.api.snapshots.set(name, { name, status: 'ready', ...sizes });
    expect(await linesFor('run', '--template=a')).toEqual(['words', '--template=after-install\tready, 512 MiB']);
    expect(await linesFor('create', '-t', 'mi')).toEqual(['words', 'minimal\tready, 512 MiB']);
  });

  it('knows profiles, and renews no session', async () => {
    const env = { AVIARY_DATA_DIR: cli.directory, XDG_CONFIG_HOME: cli.directory };
    const session = { email: 'ada@example.com', accessToken: 'a', refreshToken: 'r' };
    const credential = { type: 'session', ...session, accessTokenExpiresAt: '2020-01-01T00:00:00Z' } as const;
    const profiles = { work: { apiUrl: cli.api.url, credential } };
    await writeProfiles(path.join(cli.directory, 'aviary', 'config.json'), { current: 'work', profiles });
    const found = await complete(commands, ['profile', 'use', ''], { env });
    expect(found.candidates).toEqual([{ value: 'work', summary: cli.api.url }]);
    expect((await complete(commands, ['team', 'switch', ''], { env })).candidates).toEqual([]);
    expect(cli.api.requests).toEqual([]);
  });

  it('is silent, and in time, whatever the API does', async () => {
    const open: Socket[] = [];
    const server = createServer((socket) => open.push(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    const words = ['rm', ''];
    const env = { AVIARY_API_KEY: fakeApiKey, AVIARY_API_URL: `http://127.0.0.1:${port}` };
    expect((await complete(commands, words, { env, timeoutMs: 50 })).candidates).toEqual([]);
    for (const socket of open) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    expect((await complete(commands, words, { env })).candidates).toEqual([]);
    for (const wrong of [{ AVIARY_API_KEY: 'avy_wrong' }, { AVIARY_API_URL: 'nonsense' }, { AVIARY_PORT: 'x' }]) {
      const wrongEnv = { AVIARY_API_URL: cli.api.url, AVIARY_API_KEY: fakeApiKey, ...wrong };
      expect((await complete(commands, words, { env: wrongEnv })).candidates).toEqual([]);
    }
  });
});
