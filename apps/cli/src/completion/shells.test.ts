import { existsSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fakeApiKey } from '../fake-api.ts';
import { TestCli } from '../test-cli.ts';
import { marks, TestTerminal } from './test-terminal.ts';

const main = path.join(import.meta.dirname, '../main.ts');
const onPath = (process.env['PATH'] ?? '').split(':');
const isThere = (program: string): boolean => onPath.some((dir) => existsSync(path.join(dir, program)));

let cli: TestCli;
let env: Record<string, string>;
let id: string;
beforeAll(async () => {
  cli = await TestCli.open();
  id = cli.api.addSandbox({ metadata: { name: "it's $(touch pwned) `here`" } }).id;
  const bin = path.join(cli.directory, 'bin');
  await mkdir(bin);
  const program = path.join(bin, 'aviary');
  await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
  await chmod(program, 0o755);
  await writeFile(path.join(cli.directory, 'a file.txt'), '');
  env = {
    PATH: [bin, ...onPath].join(':'),
    HOME: cli.directory,
    AVIARY_API_URL: cli.api.url,
    AVIARY_API_KEY: fakeApiKey,
    AVIARY_DATA_DIR: cli.directory,
  };
});
afterAll(() => cli[Symbol.asyncDispose]());

/** What every shell makes of what is typed up to a TAB, and where they differ only in how they quote. */
const lines: readonly { typed: string; becomes: string }[] = [
  { typed: 'aviary sandb\t', becomes: 'aviary sandbox ' },
  { typed: 'aviary sandbox fo\t', becomes: 'aviary sandbox fork ' },
  { typed: 'aviary ls --stat\t', becomes: 'aviary ls --status ' },
  { typed: 'aviary ls --status runn\t', becomes: 'aviary ls --status running ' },
  { typed: 'aviary ls --status=runn\t', becomes: 'aviary ls --status=running ' },
  { typed: 'aviary "sandbox" \'pau\t', becomes: 'aviary "sandbox" \'pause\' ' },
  { typed: 'aviary exec sb-1 -- sandb\t', becomes: 'aviary exec sb-1 -- sandb' },
  { typed: 'aviary files put sb-1 a\\ f\t', becomes: 'aviary files put sb-1 a\\ file.txt ' },
];

describe.runIf(isThere('bash') && isThere('script'))('bash', () => {
  it('completes by the printed script, on a terminal', async () => {
    await using bash = new TestTerminal('bash --norc --noprofile', env);
    await bash.run(`cd '${cli.directory}'`);
    await bash.run('source <(aviary completion bash)');
    await bash.run(`bind -x '"\\C-o": printf "%s" "${marks.start}$READLINE_LINE${marks.end}"'`);
    for (const { typed, becomes } of lines) expect(await bash.lineAfter(typed)).toBe(becomes);
    expect(await bash.lineAfter('echo x | FOO=1 aviary pau\t')).toBe('echo x | FOO=1 aviary pause ');
    expect(await bash.lineAfter('aviary audit --action=sandbox.cre\t')).toBe('aviary audit --action=sandbox.create ');
    expect(await bash.lineAfter('aviary run 2>/dev/null --tem\t')).toBe('aviary run 2>/dev/null --template ');
    expect(await bash.lineAfter('aviary team accept < a\\ f\t')).toBe('aviary team accept < a\\ file.txt ');
    // Cursor in the middle of the line.
    expect(await bash.lineAfter('aviary sandb x\u0002\u0002\t')).toBe('aviary sandbox x');
    // Others give the names; none of them is run. A busy machine may miss the second that the API has.
    const named = async (typed: string, becomes: string) => {
      await expect.poll(() => bash.lineAfter(typed), { timeout: 60_000 }).toBe(becomes);
    };
    await named('aviary rm it\t', "aviary rm it\\'s\\ \\$\\(touch\\ pwned\\)\\ \\`here\\` ");
    await named('aviary rm "it\t', 'aviary rm "it\'s \\$(touch pwned) \\`here\\`" ');
    await named("aviary rm 'it\t", "aviary rm 'it'\\''s $(touch pwned) `here`' ");
    await named('aviary rm it\\\'s "$(touch pwned)" sb\t', `aviary rm it\\'s "$(touch pwned)" ${id} `);
    expect(existsSync(path.join(cli.directory, 'pwned'))).toBe(false);
  }, 180_000);
});
